"""Events as a running router finds them, by its API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from router.archive import MatchShape, StoryShape
from router.cli.deliveries.afar import RemoteDeliveries
from router.cli.deliveries.selecting import Known
from router.cli.history.source import EventsWanted, SearchedPlace
from router.cli.remote import Remote, part


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

    def __init__(self, remote: Remote, wanted: EventsWanted) -> None:
        self._remote = remote
        self._wanted = wanted
        self._first = ""
        self.now = remote.now
        if wanted.targets:
            now = RemoteDeliveries(remote)
            known = Known("the router's past", now.routes, now.targets(), self._past)
            known.mind(wanted.targets)

    def _past(self, targets: set[str]) -> set[str]:
        """Those of them that had events."""
        return {name for name in targets if self._has_had(name)}

    def _has_had(self, target: str) -> bool:
        found: _Found = self._remote.get("/events", _Found, [("target", target), ("limit", "1")])
        return bool(found["events"])

    def matches(self, limit: int, *, body: bool) -> Iterator[MatchShape]:
        query = [*_query(self._wanted), ("limit", str(limit)), *_body(body)]
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


def _query(wanted: EventsWanted) -> Iterator[tuple[str, str]]:
    yield from (("what", text) for text in wanted.what)
    yield from (("target", name) for name in wanted.targets)
    yield from (("code", code) for code in wanted.codes)
    for name, moment in (("since", wanted.since), ("until", wanted.until)):
        if moment is not None:
            yield name, moment.words
    if wanted.failed:
        yield "failed", "true"


def _body(body: bool) -> list[tuple[str, str]]:
    return [("body", "true")] if body else []
