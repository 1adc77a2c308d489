"""`pause`: holds a target back for a while, in every process that shares the store."""

from __future__ import annotations

import argparse

from router.cli.acting import add_who, note_removed, require_targets
from router.cli.columns import seconds
from router.cli.entries import format_pause
from router.cli.options import GOOD, NOT_STARTED, Help, Parser
from router.cli.printing import say_as
from router.cli.remote import add_router, opened, part
from router.model.errors import SettingInvalid

HELP = Help(
    about="""Keeps a pause in the store, which every process that shares it takes into force within
    a second, without a change of routes.yaml: nothing is sent to the target until it is over.
    Optional deliveries wait in the queue and lose no retry; required ones fail at once with
    `paused`, so that EBaaS retries the event. It ends by itself; `resume` ends it sooner, and
    another `pause` takes its place. `status` and `deliveries list` show it. A pause without an end
    is `paused: true` in routes.yaml. Without a target it lists the pauses in force. It asks the
    router that runs on this machine, or the one at --url; if none runs, or with --store, it writes
    into the store.""",
    examples=(
        "ebaas-router pause ledger --until 10m --because 'a migration of their database'",
        "ebaas-router pause ledger --until 2026-11-27T06:00:00Z --because 'they asked for it'",
        "ebaas-router pause",
        "ebaas-router resume ledger",
        "ebaas-router pause ledger --until 1h --because 'a move' --url http://router:8081",
    ),
    exit_codes={
        GOOD: "it is paused, or the pauses are listed",
        NOT_STARTED: "the store or the router is not there, or can't be used",
    },
)


def configure(parser: Parser) -> None:
    add_target(parser, nargs="?")
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="when it is over: a time from now (like 10m, 2h, 3d) or one like "
        "2026-11-26T13:00:00Z; at most 30 days away",
    )
    parser.add_argument("--because", metavar="TEXT", help="why, for all who see it")


def add_target(parser: Parser, nargs: str | None = None) -> None:
    """Add the arguments that `resume` has as well."""
    parser.add_argument("target", nargs=nargs, metavar="TARGET", help="its name in routes.yaml")
    add_who(parser)
    add_router(parser)


def run(args: argparse.Namespace) -> int:
    given = [name for name in ("until", "because") if getattr(args, name) is not None]
    if args.target is None and given:
        raise SettingInvalid("which target is to be paused? Its name is missing: pause TARGET")
    if args.target is None:
        return _list(args)
    if len(given) < 2:
        raise SettingInvalid("until when, and why? --until TIME --because TEXT")
    with opened(args) as router:
        require_targets(router, [args.target])
        note_removed(router, [args.target])
        body = {"until": args.until, "because": args.because}
        pause = router.post(f"/targets/{part(args.target)}/pause", body)["pause"]
    say_as(args.format, [pause], [format_pause(pause, seconds(pause["since"]))])
    return GOOD


def _list(args: argparse.Namespace) -> int:
    with opened(args) as router:
        pauses, now = router.get("/pauses")["pauses"], router.now()
    say_as(args.format, pauses, [format_pause(pause, now) for pause in pauses] or ["no pauses"])
    return GOOD
