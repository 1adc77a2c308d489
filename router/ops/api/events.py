"""Endpoints for events: search, one event, the live stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypedDict

from router.archive.reading import InventoryView
from router.archive.trace.views import MatchView, StoryView
from router.ops.api.endpoint import (
    Asked,
    Endpoint,
    EventStream,
    Rejected,
    flag,
    keys,
    moment,
    nothing_there,
    number,
    texts,
)
from router.ops.api.view import Concern
from router.ops.searching import LookedInView, SearchedFor
from router.ops.streams import Streams, Wanted

#: How many events a search gives, the most, and the most with their bodies, of 1 MiB each.
_LIMIT, _MOST, _MOST_BODIES = 20, 200, 20


class EventsView(TypedDict):
    """Events, the newest first."""

    events: list[MatchView]
    more: bool
    looked_in: list[LookedInView]
    skipped: int


async def events(asked: Asked) -> EventsView:
    """Events by any id of them, or by what became of them"""
    query, view, body = asked.query, asked.view(), bool(asked.query["body"])
    limit = query["limit"] or _LIMIT
    if body and limit > _MOST_BODIES:
        raise Rejected(400, f"limit: with bodies it is at most {_MOST_BODIES}")
    targets = view.among(query["target"])
    if targets == ():
        return EventsView(events=[], more=False, looked_in=[], skipped=0)
    wanted = SearchedFor(
        what=[*query["what"]],
        targets=[*(targets or ())],
        seen=[*(view.among(()) or ())],
        codes=[*query["code"]],
        since=query["since"],
        until=query["until"],
        failed=bool(query["failed"]),
        limit=limit,
        body=body,
    )
    found = await asked.parts.search.run(wanted, asked.holder.owner)
    concern = Concern(view)
    return EventsView(
        events=[m for each in found["events"] if (m := concern.match(each)) is not None],
        more=found["more"],
        looked_in=found["looked_in"],
        skipped=found["skipped"],
    )


async def event(asked: Asked) -> StoryView:
    """One event: each request, each attempt, and what comes next"""
    view, name = asked.view(), asked.path["id"]
    body, targets, story = bool(asked.query["body"]), view.among(()), None
    if targets != ():
        # Another's event is looked for as long as one that nobody has.
        own = [*(targets or ())]
        wanted = SearchedFor(
            what=[], targets=own, seen=own, codes=[], since=None, until=None, failed=False, limit=1,
            event=name, body=body,
        )  # fmt: skip
        told = (await asked.parts.search.run(wanted, asked.holder.owner))["story"]
        story = told and Concern(view).story(told)
    if story is None:
        raise nothing_there("such event, or no more")
    return story


async def archive(asked: Asked) -> InventoryView:
    """What the archive has; a team is not told: it has everybody's events"""
    if asked.holder.owner:
        raise nothing_there("such thing for a team")
    wanted = SearchedFor(
        what=[], targets=[], seen=[], codes=[], since=None, until=None, failed=False, limit=0,
        body=False, inventory=True,
    )  # fmt: skip
    found = (await asked.parts.search.run(wanted)).get("inventory")
    if found is None:
        raise nothing_there("archive")
    return found


EVENTS = (
    Endpoint("GET", "/archive", archive, InventoryView, problems=(404, 503)),
    Endpoint(
        "GET",
        "/events",
        events,
        EventsView,
        params=(
            texts("what", "An event's id, its request's or its trace's, its key or a pattern of "
                  "keys, an id in its changes, or how the SHA-256 of its body begins"),
            moment("since", "No older ones: a time, or so long ago"),
            moment("until", "And none since then"),
            texts("target", "Of these targets"),
            texts("code", "With the reply's code, a receiver's, or its HTTP status"),
            flag("failed", "No 000, or a failed attempt"),
            number("limit", f"How many; {_LIMIT} unless it is said", _MOST),
            flag("body", f"With their bodies; {_MOST_BODIES} events at most then", needs="bodies"),
        ),
        problems=(503,),
    ),
    Endpoint(
        "GET",
        "/events/{id}",
        event,
        StoryView,
        params=(flag("body", "With its body", needs="bodies"),),
        problems=(404, 503),
    ),
)  # fmt: skip


async def stream(asked: Asked) -> AsyncGenerator[bytes]:
    """Happenings as server-sent events: `event`, `retried`, `dead_letter`, `failing` and others as
    the log names them; `beat` where nothing happens, `dropped` for a reader that is too slow"""
    query, streams = asked.query, asked.parts.streams
    if count := streams.full_for(asked.holder):
        raise Rejected(503, f"{count} streams are open already")
    wanted = Wanted(
        asked.holder,
        targets=query["target"],
        keys=query["match"],
        failed=bool(query["failed"]),
        bodies=bool(query["bodies"]),
    )
    reading = _read(streams, wanted)
    await anext(reading)  # with no turn of the loop in between, in which others would come
    return reading


async def _read(streams: Streams, wanted: Wanted) -> AsyncGenerator[bytes]:
    """From its first step to its end it has its place."""
    with streams.open(wanted) as open_one:
        yield b""
        async for chunk in open_one.chunks():
            yield chunk


STREAM = (
    Endpoint(
        "GET",
        "/stream",
        stream,
        EventStream,
        params=(
            texts("target", "About these targets"),
            keys("match", "Events whose key matches a pattern, as in routes.yaml"),
            flag("failed", "No 000, a failed attempt, or another trouble"),
            flag("bodies", "With the events' bodies", needs="bodies"),
        ),
        problems=(503,),
    ),
)
