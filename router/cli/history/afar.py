"""Events as a running router finds them, by its API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from router.archive.trace.question import Question
from router.archive.trace.shapes import MatchShape, StoryShape
from router.cli.deliveries.afar import RemoteDeliveries
from router.cli.deliveries.selecting import mind_known
from router.cli.history.source import SearchedPlace
from router.cli.remote import Remote, part
from router.cli.times import Moment


class _Found(TypedDict):
    """What is read of the answer."""

    events: list[MatchShape]
    more: bool
    looked_in: list[SearchedPlace]
    skipped: int


class RemoteHistory:
    """As a router finds it; times ago are counted by its clock."""

    more = False
    looked_in: Sequence[SearchedPlace] = ()
    skipped = 0

    def __init__(self, remote: Remote, question: Question) -> None:
        self._remote = remote
        self._question = question
        self._first = ""
        self.now = remote.now
        if question.targets:
            now = RemoteDeliveries(remote)
            mind_known(question.targets, "the router's past", now.routes, now.targets(), self._past)

    def _past(self, targets: set[str]) -> set[str]:
        """Those of them that had events."""
        return {name for name in targets if self._has_had(name)}

    def _has_had(self, target: str) -> bool:
        found: _Found = self._remote.get("/events", _Found, [("target", target), ("limit", "1")])
        return bool(found["events"])

    def matches(self, limit: int, *, body: bool) -> Iterator[MatchShape]:
        query = [*_query(self._question), ("limit", str(limit)), *_body(body)]
        found: _Found = self._remote.get("/events", _Found, query)
        self.more, self.looked_in, self.skipped = (
            found["more"],
            found["looked_in"],
            found["skipped"],
        )
        if found["events"]:
            first = found["events"][0]
            # Where no route has matched it only its request has an id.
            self._first = first["event_id"] or str(first.get("request_id", ""))
        yield from found["events"]

    def story(self, *, body: bool) -> StoryShape:
        story: StoryShape = self._remote.get(
            f"/events/{part(self._first)}", StoryShape, _body(body)
        )
        return story


def _query(question: Question) -> Iterator[tuple[str, str]]:
    yield from (("what", word.text) for word in question.words)
    yield from (("target", name) for name in question.targets)
    yield from (("code", code) for code in question.codes)
    for name, moment in (("since", question.since), ("until", question.until)):
        if isinstance(moment, Moment):
            yield name, moment.words
    if question.failed:
        yield "failed", "true"


def _body(body: bool) -> list[tuple[str, str]]:
    return [("body", "true")] if body else []
