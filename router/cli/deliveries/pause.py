"""`pause`: a target is held back for a while, by every process that shares the store."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from router.cli.deliveries.acting import whoever
from router.cli.deliveries.entries import pause_told
from router.cli.deliveries.selecting import mind_targets
from router.cli.deliveries.store import add_store, open_ops
from router.cli.options import GOOD, NOT_STARTED, Help, add_settings
from router.cli.printing import say, say_json
from router.cli.routes.inputs import add_format
from router.model import RouterError, SettingInvalid
from router.store import StoreFailed, pause, pause_shape

if TYPE_CHECKING:
    from router.store import Ops

SUMMARY = "hold a target back for a while, with a reason and an end"

HELP = Help(
    about="""Keeps a pause in the store, which every process that shares it takes into force within
    a second, without a change of routes.yaml: nothing is sent to the target until it is over.
    Optional deliveries wait in the queue and lose no retry; required ones fail at once with
    `paused`, so that EBaaS retries the event. It ends by itself; `resume` ends it sooner, and
    another `pause` takes its place. `status` and /status show it. What is to have no end is
    `paused: true` in routes.yaml.""",
    examples=(
        "ebaas-router pause ledger --until 10m --because 'a migration of their database'",
        "ebaas-router pause ledger --until 2026-11-27T06:00:00Z --because 'they asked for it'",
        "ebaas-router resume ledger",
    ),
    exit_codes={
        GOOD: "it is paused",
        NOT_STARTED: "the store is not there or can't be used",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    add_target(parser)
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="when it is over: a time from now (like 10m, 2h, 3d) or one like "
        "2026-11-26T13:00:00Z; at most 30 days away",
    )
    parser.add_argument("--because", metavar="TEXT", help="why, for all who see it")


def add_target(parser: argparse.ArgumentParser) -> None:
    """What both commands take."""
    parser.add_argument("target", metavar="TARGET", help="its name in routes.yaml")
    parser.add_argument("--as", dest="who", metavar="NAME", help="who acts (default you@this host)")
    add_store(parser)
    add_settings(parser, "config")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if args.until is None:
        raise SettingInvalid(
            "until when? --until TIME; what is to have no end is `paused: true` in routes.yaml"
        )
    if args.because is None:
        raise SettingInvalid("why? --because TEXT")
    return asyncio.run(_pause(args))


async def _pause(args: argparse.Namespace) -> int:
    ops = await open_for_pauses(args)
    try:
        await mind_targets(ops, args, [args.target])
        made = await pause(ops, args.target, args.until, args.because, args.who or whoever())
    except ValueError as error:
        raise SettingInvalid(str(error)) from None
    except StoreFailed as error:
        raise RouterError(f"the store failed: {error}") from None
    finally:
        await ops.close()
    if args.format == "json":
        say_json(pause_shape(made))
    else:
        say(pause_told(pause_shape(made), made.since))
    return GOOD


async def open_for_pauses(args: argparse.Namespace) -> Ops:
    """Raises StartFailed."""
    return await open_ops(args, "there is nowhere to keep a pause; see `paused` of routes.yaml")
