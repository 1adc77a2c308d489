"""`trace`: what became of an event, by any id of it, also when everything was acknowledged."""

from __future__ import annotations

import argparse
from itertools import chain

from router.cli.columns import add_times, check_times, counted
from router.cli.finding import EventSearch, add_places, query_of
from router.cli.options import BAD, GOOD, NOT_STARTED, Help, Parser, add_format, add_settings, value
from router.cli.printing import note, say, say_as
from router.cli.remote import Remote, opened
from router.config.settings import parse_count
from router.model.errors import SettingInvalid

HELP = Help(
    about="""Looks for events in the archive and in the store: of the router that runs on this
    machine, or at --url, or, if none runs, of the settings. It tells one event whole: each request
    of EBaaS and what it was told, each attempt and what the receiver said, what was skipped and
    why, retries, replays, and what comes next. Several are a table, the newest first. WHAT is an
    event's id (webhook-id), a request's id, an event_key or a pattern of keys, an id in `changes`,
    a trace's id, or how the SHA-256 of a body begins (6 characters at least); several mean any of
    them. Without WHAT the filters alone say which.""",
    examples=(
        "ebaas-router trace order-4711",
        "ebaas-router trace 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11 --body",
        "ebaas-router trace 'a.gs.*' --since 3h --target ledger --failed",
        "ebaas-router trace --code 700 --since 1d --format json",
    ),
    exit_codes={
        GOOD: "found",
        BAD: "no such event",
        NOT_STARTED: "what was to be looked into is not there or can't be read",
    },
)

#: How many events a table has unless told otherwise.
_LIMIT = 20


def configure(parser: Parser) -> None:
    parser.add_argument("what", nargs="*", metavar="WHAT", help="by what the event is known")
    which = parser.add_argument_group("which of them")
    many = "; may be repeated"
    add_times(which)
    which.add_argument("--target", action="append", metavar="NAME", help=f"of this target{many}")
    which.add_argument(
        "--code",
        action="append",
        metavar="CODE",
        help=f"the reply's, a receiver's, or its HTTP status{many}",
    )
    which.add_argument("--failed", action="store_true", help="no 000, or a failed attempt")
    add_places(parser)
    add_settings(parser, "config")
    parser.add_argument(
        "--limit", type=value(parse_count), metavar="N", help=f"events (default {_LIMIT})"
    )
    parser.add_argument("--body", action="store_true", help="show bodies, which may be secret")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    has_time = args.since is not None or args.until is not None
    if not (args.what or args.target or args.code or args.failed or has_time):
        raise SettingInvalid("which event? Any id of it, a key or a pattern: trace WHAT")
    check_times(args)
    query = [*query_of(args), *([("body", "true")] if args.body else [])]
    with opened(args, needs="either") as router:
        found = EventSearch(router, query, args.limit or _LIMIT)
        if not found.events:
            note(f"no such event; {found.where}")
        elif len(found.events) == 1 and not found.more:
            _say_story(found, router, args)
        else:
            _say_table(found, args)
        if found.skipped:
            note(f"{counted(found.skipped, 'line')} could not be read and were left out")
        return GOOD if found.events else BAD


def _say_story(found: EventSearch, router: Remote, args: argparse.Namespace) -> None:
    from router.cli.stories import format_story

    story, body = found.story(body=args.body), list[str]()
    if args.body:
        body = ["", story["body"] if story["body"] is not None else "(its body was not kept)"]
    say_as(args.format, [story], chain(format_story(story, router.now()), body))


def _say_table(found: EventSearch, args: argparse.Namespace) -> None:
    from router.cli.stories import MATCH_HEAD, format_match

    if args.format == "text":
        say(MATCH_HEAD)
    for match in found.events:
        bodies = (f"  {body}" for body in [match.get("body")] if body)
        say_as(args.format, [match], chain(map(format_match, [match]), bodies))
    if found.more and args.format == "text":
        say("and more: --limit, --since")
