"""Endpoints for events: search, one event, the archive, the live stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from functools import partial

from router.archive.reading import InventoryView, Question, Word
from router.archive.trace.views import NextView, StoryView
from router.ops.api.endpoint import (
    FLAG,
    MOMENT,
    PATTERN,
    TEXT,
    ApiCall,
    EventStream,
    Param,
    endpoint,
    number,
)
from router.ops.api.targets import recovery_view
from router.ops.problems import Rejected
from router.ops.searching import EventsView, find_events, find_inventory, find_story
from router.ops.streams import StreamFilter, Streams
from router.store.protocol import RETRIED

#: The events of a search: by default, at most, and at most with bodies of up to 1 MiB.
_LIMIT, _MOST, _MOST_BODIES = 20, 200, 20

_WHAT = (
    "An event's id, its request's or trace's id, its key or a pattern of keys, an id in its "
    "changes, the beginning of its body's SHA-256, or a whole word of a refused callback's body"
)


@endpoint(
    "GET",
    "/events",
    params=(
        Param("what", _WHAT, TEXT, many=True),
        Param("since", "Not older than this: a time, or a time ago", MOMENT),
        Param("until", "Older than this", MOMENT),
        Param("target", "Of these targets", TEXT, many=True),
        Param("code", "With this code for EBaaS or of a receiver, or HTTP status", TEXT, many=True),
        Param("failed", "Without 000, or with a failed attempt", FLAG),
        Param("limit", f"How many; {_LIMIT} by default", number(_MOST)),
        Param("body", f"With bodies; then at most {_MOST_BODIES} events", FLAG, needs="bodies"),
    ),
)
async def events(call: ApiCall) -> EventsView:
    """Events by any of their ids, or by what became of them"""
    query, view, body = call.query, call.view, bool(call.query["body"])
    limit = query["limit"] or _LIMIT
    if body and limit > _MOST_BODIES:
        raise Rejected("bodies_limit", most=_MOST_BODIES)
    question = Question(
        words=tuple(map(Word, query["what"])),
        targets=view.among(query["target"]) or (),
        seen=view.among(()) or (),
        codes=query["code"],
        since=query["since"],
        until=query["until"],
        failed=bool(query["failed"]),
    )
    work = partial(find_events, question, limit, body)
    answer = await call.parts.search.run(work, call.holder.owner)
    visible = [shown for match in answer["events"] if (shown := view.match(match)) is not None]
    return {**answer, "events": visible}


@endpoint("GET", "/events/{id}", params=(Param("body", "With its body", FLAG, needs="bodies"),))
async def event(call: ApiCall) -> StoryView:
    """One event: each request, each attempt, and what comes next"""
    # A search for another team's event takes as long as one for an event that does not exist.
    own = call.view.among(()) or ()
    question = Question(event_id=call.path["id"], targets=own, seen=own)
    work = partial(find_story, question, bool(call.query["body"]))
    story = await call.parts.search.run(work, call.holder.owner)
    visible = story and call.view.story(story)
    if visible is None:
        raise Rejected("no_event")
    return {**visible, "next": [*_recoveries(call, visible), *visible["next"]]}


def _recoveries(call: ApiCall, story: StoryView) -> Iterator[NextView]:
    """Yield the recoveries in progress that the event's deliveries wait for."""
    if not call.parts.is_running:
        return
    targets = call.view.report().metrics.targets
    for entry in story["deliveries"]:
        numbers = targets.get(entry["target"])
        recovery = None if numbers is None else recovery_view(numbers)
        if recovery is not None and entry["state"] in RETRIED:
            yield {
                "what": "recovery",
                "at": recovery["since"],
                "number": recovery["left"],
                "target": entry["target"],
                "recovery": recovery,
            }


@endpoint("GET", "/archive")
async def archive(call: ApiCall) -> InventoryView:
    """The contents of the archive; not for teams, since it has everybody's events"""
    call.require_no_team()
    inventory = await call.parts.search.run(find_inventory, store=False)
    if inventory is None:
        raise Rejected("no_archive")
    return inventory


@endpoint(
    "GET",
    "/stream",
    params=(
        Param("target", "About these targets", TEXT, many=True),
        Param("match", "Events whose key matches, as in routes.yaml", PATTERN, many=True),
        Param("failed", "Without 000, with a failed attempt, or another problem", FLAG),
        Param("bodies", "With the events' bodies", FLAG, needs="bodies"),
    ),
    replies=EventStream,
)
async def stream(call: ApiCall) -> AsyncGenerator[bytes]:
    """Log events as server-sent events: `event`, `retried`, `dead_letter`, `failing` and others by
    their names in the log; `beat` if nothing happens, `dropped` for a reader that is too slow"""
    query, streams = call.query, call.parts.insight.streams
    if count := streams.full_for(call.holder):
        raise Rejected("streams_full", count=count)
    failed, bodies = bool(query["failed"]), bool(query["bodies"])
    filter_ = StreamFilter(call.holder, query["target"], query["match"], failed, bodies)
    reading = _read(streams, filter_)
    await anext(reading)  # takes the place at once, before another request can check for one
    return reading


async def _read(streams: Streams, filter_: StreamFilter) -> AsyncGenerator[bytes]:
    """Read a stream, which is open from the first step of this generator to its end."""
    with streams.open(filter_) as opened:
        yield b""
        async for chunk in opened.chunks():
            yield chunk
