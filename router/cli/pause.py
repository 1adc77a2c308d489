"""`pause`: a target is held back for a while, by every process that shares the store."""

from __future__ import annotations

import argparse

from router.cli.acting import add_who, note_removed, require_targets
from router.cli.columns import seconds
from router.cli.entries import format_pause
from router.cli.options import GOOD, NOT_STARTED, Help, Parser, add_format, add_settings
from router.cli.printing import say_as
from router.cli.remote import add_remote, add_store, opened, part
from router.model.errors import SettingInvalid

HELP = Help(
    about="""Keeps a pause in the store, which every process that shares it takes into force within
    a second, without a change of routes.yaml: nothing is sent to the target until it is over.
    Optional deliveries wait in the queue and lose no retry; required ones fail at once with
    `paused`, so that EBaaS retries the event. It ends by itself; `resume` ends it sooner, and
    another `pause` takes its place. `status` and /status show it. What is to have no end is
    `paused: true` in routes.yaml. Without TARGET the pauses in force are listed. It asks the router
    that runs on this machine, or the one at --url; if none runs, or with --store, it writes into
    the store.""",
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
    add_target(parser, is_optional=True)
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="when it is over: a time from now (like 10m, 2h, 3d) or one like "
        "2026-11-26T13:00:00Z; at most 30 days away",
    )
    parser.add_argument("--because", metavar="TEXT", help="why, for all who see it")


def add_target(parser: Parser, *, is_optional: bool = False) -> None:
    """What both commands take."""
    nargs = "?" if is_optional else None
    parser.add_argument("target", nargs=nargs, metavar="TARGET", help="its name in routes.yaml")
    add_who(parser)
    add_store(parser)
    add_settings(parser, "config")
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if args.target is None:
        return _list(args)
    if args.until is None:
        raise SettingInvalid(
            "until when? --until TIME; what is to have no end is `paused: true` in routes.yaml"
        )
    if args.because is None:
        raise SettingInvalid("why? --because TEXT")
    with opened(args) as router:
        named = require_targets(router, [args.target], must_be_known=True)
        note_removed([args.target], router.routes, named)
        until = {"until": args.until, "because": args.because}
        made = router.post(f"/targets/{part(args.target)}/pause", until)["pause"]
        say_as(args.format, [made], [format_pause(made, seconds(made["since"]))])
    return GOOD


def _list(args: argparse.Namespace) -> int:
    for name in ("until", "because", "who"):
        if getattr(args, name) is not None:
            raise SettingInvalid("which target is to be paused? Its name is missing: pause TARGET")
    with opened(args) as router:
        pauses, now = router.get("/pauses")["pauses"], router.now()
        say_as(args.format, pauses, [format_pause(each, now) for each in pauses] or ["no pauses"])
    return GOOD
