"""A search of the archive and the store, as a process of its own: a scan takes seconds, and would
keep the interpreter's lock from callbacks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated, NotRequired, TypedDict

from router.archive.reading import InventoryShape, Sources, inventory, inventory_shape
from router.archive.trace.finding import Match, matches, name_of, rows, story_of
from router.archive.trace.question import Question, Word
from router.archive.trace.shapes import MatchShape, StoryShape, row_shape, story_shape
from router.config.settings import Settings, archive_folder
from router.model.errors import StartFailed
from router.store.opening import look_into
from router.store.ops import Ops
from router.store.promises import StoreLimits
from router.telemetry.log.lines import utc

#: How much nicer than the router it is: callbacks come first.
_NICENESS = 5


class SearchedFor(TypedDict):
    """What is looked for; lists that are empty fit all."""

    what: list[str]
    targets: list[str]
    #: All that there are for who asks.
    seen: list[str]
    codes: list[str]
    since: float | None
    until: float | None
    failed: bool
    limit: int
    #: With bodies.
    body: bool
    #: The id of the only one to be told whole.
    event: NotRequired[str]
    #: Nothing but what the archive has.
    inventory: NotRequired[bool]


class LookedInShape(TypedDict):
    """Where was looked, and how far back it reaches."""

    name: str
    #: Null where nothing is there, or all of what is not settled.
    back_to: Annotated[str, ("format", "date-time")] | None


class Found(TypedDict):
    """What came of a search."""

    events: list[MatchShape]
    #: There are more than were asked for.
    more: bool
    looked_in: list[LookedInShape]
    #: Lines that could not be read.
    skipped: int
    story: StoryShape | None
    #: None where there is no archive, or it was not asked for.
    inventory: NotRequired[InventoryShape | None]


def search(settings: Settings) -> None:
    """Look for what is asked on stdin, say on stdout what was found. Raises RouterError."""
    os.nice(_NICENESS)
    asked: SearchedFor = json.load(sys.stdin)
    json.dump(asyncio.run(_found(settings, asked)), sys.stdout)


async def _found(settings: Settings, asked: SearchedFor) -> Found:
    folder = archive_folder(settings.archive, settings.store)
    if folder is not None and not folder.is_dir():
        folder = None
    sources = Sources(folder)
    if asked.get("inventory"):
        counted = None if folder is None else inventory(folder, _nobody, _nobody)
        found = _told([], sources, None, None, more=False)
        found["inventory"] = None if counted is None else inventory_shape(counted)
        return found
    ops = await _ops(settings)
    try:
        question = _question(asked)
        limit = asked["limit"]
        if "event" in asked:
            matching = await matches(question, limit + 1, sources, ops)
            story = await _story(matching, sources, ops, asked)
            return _told([], sources, ops, story, more=False)
        table = await rows(question, limit, sources, ops)
        told = [row_shape(each, body=asked["body"]) for each in table]
        return _told(told, sources, ops, None, more=table.more)
    finally:
        if ops is not None:
            await ops.close()


def _nobody(_: str) -> None:
    """Nobody is there to read how far it is."""


async def _story(
    found: Iterator[Match], sources: Sources, ops: Ops | None, asked: SearchedFor
) -> StoryShape | None:
    for match in found:
        if asked["event"] == name_of(match):
            story = await story_of(match, sources, ops)
            return story_shape(story, body=asked["body"])
    return None


def _told(
    events: list[MatchShape],
    sources: Sources,
    ops: Ops | None,
    story: StoryShape | None,
    *,
    more: bool,
) -> Found:
    looked_in = [
        LookedInShape(name=name, back_to=None if since is None else utc(since))
        for name, since in sources.reach.items()
    ]
    if ops is not None:
        looked_in.append(LookedInShape(name="store", back_to=None))
    return Found(
        events=events,
        more=more,
        looked_in=looked_in,
        skipped=sources.skipped,
        story=story,
    )


def _question(asked: SearchedFor) -> Question:
    return Question(
        words=tuple(map(Word, asked["what"])),
        event_id=asked.get("event", ""),
        since=asked["since"],
        until=asked["until"],
        targets=tuple(asked["targets"]),
        seen=tuple(asked["seen"]),
        codes=tuple(asked["codes"]),
        failed=asked["failed"],
    )


async def _ops(settings: Settings) -> Ops | None:
    """The store, where it is there."""
    if settings.store is None:
        return None
    limits = StoreLimits(settings.store_max_bytes)
    try:
        return await look_into(settings.store, limits, settings.store_password_file, read_only=True)
    except StartFailed:
        return None
