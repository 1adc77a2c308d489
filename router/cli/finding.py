"""Events that were handled, as `trace` and `resend` find them by the API."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from router.cli.acting import require_known
from router.cli.asking import RemoteProblem
from router.cli.columns import Moment
from router.cli.options import Parser
from router.cli.remote import (
    Remote,
    add_archive,
    add_remote,
    add_store,
    part,
)
from router.model.errors import SettingInvalid

if TYPE_CHECKING:
    from router.archive.trace.question import Question


def add_places(parser: Parser) -> None:
    """The options that say where to look."""
    where = parser.add_argument_group("where to look if no router runs (default both)")
    add_archive(where)
    add_store(parser)
    add_remote(parser)


def require_targets(router: Remote, targets: Collection[str]) -> None:
    """Raises SettingInvalid for one that neither routes.yaml knows nor what was handled."""

    def look(missing: set[str]) -> set[str]:
        known = {name for name in missing if _has_had(router, name)}
        if missing - known:  # one of the others may be meant
            with suppress(RemoteProblem):
                known |= router.get("/archive")["targets"].keys()
        return known

    if targets:
        where = "the router's past" if router.is_running else "what is looked into"
        require_known(targets, where, router.routes, router.targets(), look)


def _has_had(router: Remote, target: str) -> bool:
    return bool(router.get("/events", [("target", target), ("limit", "1")])["events"])


class EventSearch:
    """What one search has found: the newest event first."""

    def __init__(self, router: Remote, query: Sequence[tuple[str, str]], limit: int) -> None:
        """Raises RouterError, also for a target that nobody knows."""
        self._router = router
        require_targets(router, [text for name, text in query if name == "target"])
        found = router.get("/events", [*query, ("limit", str(limit))])
        self.events, self.more = found["events"], found["more"]
        self.skipped = found["skipped"]
        self._looked_in = found["looked_in"]

    def story(self, *, body: bool) -> Any:
        """All of the first event."""
        first = self.events[0]
        # An event that no route matches has its request's id alone.
        name = first["event_id"] or str(first.get("request_id", ""))
        return self._router.get(f"/events/{part(name)}", [("body", "true")] if body else [])

    @property
    def where(self) -> str:
        """Where was looked, and how far back each place reaches."""
        places = [
            f"the {each['name']} ({_reach(each['name'], each['back_to'])})"
            for each in self._looked_in
        ]
        if not places:
            return "the router has neither an archive nor a store, or no such target of yours"
        return f"looked in {', '.join(places)}"


def _reach(name: str, back_to: str | None) -> str:
    if name == "store":
        return "what is not settled, or was within the hour"
    return f"back to {back_to}" if back_to is not None else "nothing there"


def query_of(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Which events the options select, as the API wants it."""
    query = [("what", word) for word in args.what]
    query += [("target", name) for name in args.target or ()]
    query += [("code", code) for code in args.code or ()]
    for name, moment in (("since", args.since), ("until", args.until)):
        if isinstance(moment, Moment):
            query.append((name, moment.words))
    if not all(text for _, text in query):
        raise SettingInvalid("an argument is empty")
    return [*query, *([("failed", "true")] if args.failed else [])]


# Of an archive's files on this machine.


def question_of(args: argparse.Namespace) -> Question:
    """Which events the options of `archive` select."""
    from router.archive.trace.question import Question

    if not all((*(args.target or ()), *(args.code or ()))):
        raise SettingInvalid("an argument is empty")
    return Question(
        keys=tuple(args.match or ()),
        since=args.since,
        until=args.until,
        targets=tuple(args.target or ()),
        codes=tuple(args.code or ()),
        failed=args.failed,
    )
