"""Endpoints for events: search, one event, the archive, the live stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypedDict

from router.archive.reading import InventoryView
from router.archive.trace.views import MatchView, StoryView
from router.ops.api.endpoint import (
    ApiCall,
    EventStream,
    endpoint,
    flag,
    moment,
    number,
    patterns,
    texts,
)
from router.ops.problems import Rejected
from router.ops.searching import LookedInView, SearchedFor
from router.ops.streams import StreamFilter, Streams

#: How many events a search returns by default, at most, and at most with bodies of up to 1 MiB.
_LIMIT, _MOST, _MOST_BODIES = 20, 200, 20


class EventsView(TypedDict):
    """Events, the newest first."""

    events: list[MatchView]
    more: bool
    looked_in: list[LookedInView]
    skipped: int


@endpoint(
    "GET",
    "/events",
    params=(
        texts(
            "what",
            "An event's id, its request's or trace's id, its key or a pattern of keys, an id in "
            "its changes, or the beginning of its body's SHA-256",
        ),
        moment("since", "Not older than this: a time, or a time ago"),
        moment("until", "Older than this"),
        texts("target", "Of these targets"),
        texts("code", "With this code in the reply or a receiver's answer, or this HTTP status"),
        flag("failed", "Without 000, or with a failed attempt"),
        number("limit", f"How many; {_LIMIT} by default", _MOST),
        flag("body", f"With their bodies; then at most {_MOST_BODIES} events", needs="bodies"),
    ),
    problems=(503,),
)
async def events(call: ApiCall) -> EventsView:
    """Events by any of their ids, or by what became of them"""
    query, view, body = call.query, call.view(), bool(call.query["body"])
    limit = query["limit"] or _LIMIT
    if body and limit > _MOST_BODIES:
        raise Rejected("bodies_limit", most=_MOST_BODIES)
    question = SearchedFor(
        what=[*query["what"]],
        targets=[*(view.among(query["target"]) or ())],
        seen=[*(view.among(()) or ())],
        codes=[*query["code"]],
        since=query["since"],
        until=query["until"],
        failed=bool(query["failed"]),
        limit=limit,
        body=body,
    )
    found = await call.parts.search.run(question, call.holder.owner)
    return EventsView(
        events=[match for each in found["events"] if (match := view.match(each)) is not None],
        more=found["more"],
        looked_in=found["looked_in"],
        skipped=found["skipped"],
    )


@endpoint(
    "GET",
    "/events/{id}",
    params=(flag("body", "With its body", needs="bodies"),),
    problems=(404, 503),
)
async def event(call: ApiCall) -> StoryView:
    """One event: each request, each attempt, and what comes next"""
    view, body = call.view(), bool(call.query["body"])
    # A search for another team's event takes as long as one for an event that does not exist.
    own = [*(view.among(()) or ())]
    question = SearchedFor(targets=own, seen=own, limit=1, event=call.path["id"], body=body)
    story = (await call.parts.search.run(question, call.holder.owner))["story"]
    visible = story and view.story(story)
    if visible is None:
        raise Rejected("no_event")
    return visible


@endpoint("GET", "/archive", problems=(404, 503))
async def archive(call: ApiCall) -> InventoryView:
    """The contents of the archive; not for teams, since it has everybody's events"""
    call.require_no_team()
    inventory = (await call.parts.search.run({"inventory": True})).get("inventory")
    if inventory is None:
        raise Rejected("no_archive")
    return inventory


@endpoint(
    "GET",
    "/stream",
    params=(
        texts("target", "About these targets"),
        patterns("match", "Events whose key matches a pattern, as in routes.yaml"),
        flag("failed", "Without 000, with a failed attempt, or another problem"),
        flag("bodies", "With the events' bodies", needs="bodies"),
    ),
    problems=(503,),
    replies=EventStream,
)
async def stream(call: ApiCall) -> AsyncGenerator[bytes]:
    """Log events as server-sent events: `event`, `retried`, `dead_letter`, `failing` and others by
    their names in the log; `beat` if nothing happens, `dropped` for a reader that is too slow"""
    query, streams = call.query, call.parts.streams
    if count := streams.full_for(call.holder):
        raise Rejected("streams_full", count=count)
    reading = _read(
        streams,
        StreamFilter(
            call.holder,
            targets=query["target"],
            keys=query["match"],
            failed=bool(query["failed"]),
            bodies=bool(query["bodies"]),
        ),
    )
    await anext(reading)  # takes the place at once, before another request can check for one
    return reading


async def _read(streams: Streams, wanted: StreamFilter) -> AsyncGenerator[bytes]:
    """Read a stream, which is open from the first step of this generator to its end."""
    with streams.open(wanted) as opened:
        yield b""
        async for chunk in opened.chunks():
            yield chunk
