"""`resume`: ends a pause of a target before its time."""

from __future__ import annotations

import argparse

from router.cli.acting import require_targets
from router.cli.options import BAD, GOOD, NOT_STARTED, Help, Parser
from router.cli.pause import add_target
from router.cli.printing import note, say_as
from router.cli.remote import opened, part
from router.config.document import shown

HELP = Help(
    about="""Ends what `pause` began: every process that shares the store goes on with the target
    within a second, few attempts at a time. What has `paused: true` in routes.yaml stays
    paused. It asks the same router, or store, as `pause`.""",
    examples=(
        "ebaas-router resume ledger",
        "ebaas-router resume ledger --store postgresql://router@db.example/ebaas --as night-shift",
    ),
    exit_codes={
        GOOD: "its pause is over",
        BAD: "it is not paused",
        NOT_STARTED: "the store or the router is not there, or can't be used",
    },
)


def configure(parser: Parser) -> None:
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    with opened(args) as router:
        ended = router.post(f"/targets/{part(args.target)}/resume", {})["pause"]
        if ended is None:
            require_targets(router, [args.target])
            note(f"{args.target} is not paused")
            return BAD
    paused = f"paused by {shown(ended['who'])}: {ended['because']}"
    say_as(args.format, [ended], [f"{ended['target']} resumed; it was {paused}"])
    return GOOD
