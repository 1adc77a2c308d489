"""`resume`: a pause of a target is ended before its time."""

from __future__ import annotations

import argparse
import asyncio

from router.cli.deliveries.acting import whoever
from router.cli.deliveries.pause import add_target, open_for_pauses
from router.cli.deliveries.selecting import mind_targets
from router.cli.options import BAD, GOOD, NOT_STARTED, Help
from router.cli.printing import note, say, say_json
from router.config import shown
from router.model import RouterError
from router.store import StoreFailed, pause_shape, resume

SUMMARY = "end a pause of a target before its time"

HELP = Help(
    about="""Ends what `pause` began: every process that shares the store goes on with the target
    within a second, few attempts at a time. What has `paused: true` in routes.yaml stays
    paused.""",
    examples=(
        "ebaas-router resume ledger",
        "ebaas-router resume ledger --store postgresql://router@db.example/ebaas --as night-shift",
    ),
    exit_codes={
        GOOD: "its pause is over",
        BAD: "nobody has paused it",
        NOT_STARTED: "the store is not there or can't be used",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_resume(args))


async def _resume(args: argparse.Namespace) -> int:
    ops = await open_for_pauses(args)
    try:
        ended = await resume(ops, args.target, args.who or whoever())
        if ended is None:
            await mind_targets(ops, args, [args.target])
            note(f"nobody has paused {args.target}")
            return BAD
    except StoreFailed as error:
        raise RouterError(f"the store failed: {error}") from None
    finally:
        await ops.close()
    if args.format == "json":
        say_json(pause_shape(ended))
    else:
        say(f"{ended.target} goes on; {shown(ended.who)} had paused it: {ended.because}")
    return GOOD
