"""`trace`: the story of an event, found by any id of it, even if every target acknowledged it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from typing import Any

from router.cli.acting import require_targets
from router.cli.columns import Moment, add_times, check_times, counted
from router.cli.options import BAD, GOOD, NOT_STARTED, Help, Parser, add_option
from router.cli.printing import note, say, say_as
from router.cli.remote import Remote, add_archive, add_remote, add_router, add_store, opened, part
from router.config.settings import parse_count
from router.model.errors import SettingInvalid

HELP = Help(
    about="""Finds events in the archive and the store: of the router that runs on this machine, or
    at --url, or, if none runs, of the settings. For one event it shows each request of EBaaS and
    its reply, each attempt and the receiver's answer, what was skipped and why, retries, replays,
    and what comes next. Several events are a table, the newest first. WHAT is an event's id
    (webhook-id), a request's id, an event_key or a pattern of keys, an id in `changes`, a trace's
    id, or the beginning of a body's SHA-256 (6 characters at least); several mean any of them.
    Without WHAT the filters select the events.""",
    examples=(
        "ebaas-router trace order-4711",
        "ebaas-router trace 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11 --body",
        "ebaas-router trace 'a.gs.*' --since 3h --target ledger --failed",
        "ebaas-router trace --code 700 --since 1d --format json",
    ),
    exit_codes={
        GOOD: "found",
        BAD: "no such event",
        NOT_STARTED: "the archive, the store or the router is missing or can't be read",
    },
)

#: How many events a table has by default.
_LIMIT = 20


def configure(parser: Parser) -> None:
    parser.add_argument("what", nargs="*", metavar="WHAT", help="an id of the event, or its key")
    add_search(parser.add_argument_group("which of them"))
    add_archive(parser.add_argument_group("where to look if no router runs (default both)"))
    parser.add_argument("--body", action="store_true", help="show bodies, which may be secret")
    add_router(parser)


def add_search(group: argparse._ArgumentGroup, verb: str = "") -> None:
    """Add the options that select events; `verb` goes before those of one verb alone."""
    add_times(group)
    add_option(group, "--target", "NAME", "of this target", many=True)
    code = f"{verb}the reply's, a receiver's, or its HTTP status"
    add_option(group, "--code", "CODE", code, many=True)
    group.add_argument("--failed", action="store_true", help=f"{verb}no 000, or a failed attempt")
    limit = f"{verb}so many events at most" + ("" if verb else f" (default {_LIMIT})")
    add_option(group, "--limit", "N", limit, parse_count)


def run(args: argparse.Namespace) -> int:
    has_time = args.since is not None or args.until is not None
    if not (args.what or args.target or args.code or args.failed or has_time):
        raise SettingInvalid("which event? Any id of it, a key or a pattern: trace WHAT")
    check_times(args)
    query = [*_query(args), *([("body", "true")] if args.body else [])]
    with opened(args, needs="either") as router:
        search = EventSearch(router, query, args.limit or _LIMIT)
        if not search.events:
            note(f"no such event; {search.where}")
        elif len(search.events) == 1 and not search.more:
            _say_story(search, router, args)
        else:
            _say_table(search, args)
        if search.skipped:
            note(f"{counted(search.skipped, 'line')} could not be read and were left out")
        return GOOD if search.events else BAD


def _say_story(search: EventSearch, router: Remote, args: argparse.Namespace) -> None:
    from router.cli.stories import format_story

    story, body = search.story(body=args.body), list[str]()
    if args.body:
        body = ["", story["body"] if story["body"] is not None else "(its body was not kept)"]
    say_as(args.format, [story], chain(format_story(story, router.now()), body))


def _say_table(search: EventSearch, args: argparse.Namespace) -> None:
    from router.cli.stories import MATCH_HEAD, format_match

    if args.format == "text":
        say(MATCH_HEAD)
    for match in search.events:
        bodies = (f"  {body}" for body in [match.get("body")] if body)
        say_as(args.format, [match], chain(map(format_match, [match]), bodies))
    if search.more and args.format == "text":
        say("and more: --limit, --since")


def add_places(parser: Parser) -> None:
    """Add the options that say where to look."""
    add_archive(parser.add_argument_group("where to look if no router runs (default both)"))
    add_store(parser)
    add_remote(parser)


class EventSearch:
    """The results of one search, the newest event first."""

    def __init__(self, router: Remote, query: Sequence[tuple[str, str]], limit: int) -> None:
        """Raises RouterError, also for an unknown target."""
        self._router = router
        require_targets(router, [text for name, text in query if name == "target"])
        response = router.get("/events", [*query, ("limit", str(limit))])
        self.events, self.more = response["events"], response["more"]
        self.skipped = response["skipped"]
        self._looked_in = response["looked_in"]

    def story(self, *, body: bool) -> Any:
        """Return the whole story of the first event."""
        first = self.events[0]
        # An event that no route matches has its request's id alone.
        name = first["event_id"] or str(first.get("request_id", ""))
        return self._router.get(f"/events/{part(name)}", [("body", "true")] if body else [])

    @property
    def where(self) -> str:
        """Return the sources that were searched, and how far back each reaches."""
        sources = []
        for source in self._looked_in:
            reach = f"back to {source['back_to']}" if source["back_to"] else "nothing there"
            if source["name"] == "store":
                reach = "what is not settled, or was within the hour"
            sources.append(f"the {source['name']} ({reach})")
        if not sources:
            return "the router has neither an archive nor a store, or no such target of yours"
        return f"looked in {', '.join(sources)}"


def _query(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return which events the options select, as the API wants it."""
    query = [("what", word) for word in args.what]
    query += [("target", name) for name in args.target or ()]
    query += [("code", code) for code in args.code or ()]
    for name, moment in (("since", args.since), ("until", args.until)):
        if isinstance(moment, Moment):
            query.append((name, moment.words))
    if not all(text for _, text in query):
        raise SettingInvalid("an argument is empty")
    return [*query, *([("failed", "true")] if args.failed else [])]
