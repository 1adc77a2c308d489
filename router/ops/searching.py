"""A search of the archive and the store, as a process of its own: a scan takes seconds, and would
keep the interpreter's lock from callbacks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

from router.archive.reading import InventoryView, Sources
from router.archive.trace.finding import Match, matches, name_of, rows
from router.archive.trace.question import Question, Word
from router.archive.trace.replay import Again, ReplayPlace, id_of, resend
from router.archive.trace.views import MatchView, StoryView, row_view, story_of
from router.config.settings import Settings, archive_folder
from router.model.errors import StartFailed
from router.routing.index import Glob
from router.store.admin import Admin
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from router.telemetry.log.lines import utc

#: Takes a line about how a search goes.
Tell = Callable[[str], None]

#: The most that the bodies of one page have, in characters, before its last.
_PAGE_BYTES = 4 * 1024 * 1024

#: How much nicer than the router it is: callbacks come first.
_NICENESS = 5


class AgainFor(TypedDict):
    """Which events are to be delivered to a target again."""

    target: str
    #: Patterns of keys.
    match: list[str]
    since: float | None
    until: float
    backfill: bool
    #: The time and the id of the last event that was taken before.
    after: tuple[float, str] | None
    #: How many events are wanted; 0 to count all of them.
    page: int


class ResendFound(TypedDict):
    """An event to be delivered again, as its line has it."""

    at: float
    event_id: str
    request_id: str
    number: int | None
    hops: int
    body: str


class AgainFound(TypedDict):
    """What there is to be delivered again."""

    events: list[ResendFound]
    number: int
    #: When the first and the last of them came, Unix time; None where there is none.
    first: float | None
    last: float | None
    #: Lines that were left out: why, and how many.
    left_out: dict[str, int]
    #: What could not be read, in words; `""` for nothing.
    damage: str
    more: bool


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
    #: Nothing but what is to be delivered again.
    again: NotRequired[AgainFor]


class LookedInView(TypedDict):
    """Where was looked, and how far back it reaches."""

    name: str
    #: Null where nothing is there, or all of what is not settled.
    back_to: Annotated[str, ("format", "date-time")] | None


class Found(TypedDict):
    """What came of a search."""

    events: list[MatchView]
    #: There are more than were asked for.
    more: bool
    looked_in: list[LookedInView]
    #: Lines that could not be read.
    skipped: int
    story: StoryView | None
    #: None where there is no archive, or it was not asked for.
    inventory: NotRequired[InventoryView | None]
    again: NotRequired[AgainFound]


def search(settings: Settings) -> None:
    """Look for what is asked on stdin, say on stdout what was found. Raises RouterError."""
    os.nice(_NICENESS)
    asked: SearchedFor = json.load(sys.stdin)
    json.dump(asyncio.run(_found(settings, asked)), sys.stdout)


async def _found(settings: Settings, asked: SearchedFor) -> Found:
    folder = archive_folder(settings.archive, settings.store)
    if folder is not None and not folder.is_dir():
        folder = None
    is_archive_alone = "again" in asked or asked.get("inventory")
    ops = None if is_archive_alone else await _ops(settings)
    try:
        return await search_in(folder, ops, asked, _nobody, _nobody)
    finally:
        if ops is not None:
            await ops.close()


def _nobody(_: str) -> None:
    """Nobody is there to read how far it is."""


async def search_in(
    folder: Path | None, ops: Admin | None, asked: SearchedFor, progress: Tell, note: Tell
) -> Found:
    """What is asked for, of an archive and a store. Raises OSError and StoreFailed."""
    sources = Sources(folder, progress, note)
    if asked.get("inventory"):
        found = _told([], sources, None, None, more=False)
        found["inventory"] = sources.inventory()
        return found
    if "again" in asked:
        found = _told([], sources, None, None, more=False)
        if folder is not None:
            found["again"] = _again(sources, asked["again"])
        return found
    question = _question(asked)
    limit = asked["limit"]
    if "event" in asked:
        matching = await matches(question, limit + 1, sources, ops)
        story = await _story(matching, sources, ops, asked)
        return _told([], sources, ops, story, more=False)
    table, more = rows(await matches(question, limit + 1, sources, ops), limit)
    told = [row_view(row, body=asked["body"]) for row in table]
    return _told(told, sources, ops, None, more=more)


async def _story(
    found: Iterator[Match], sources: Sources, ops: Admin | None, asked: SearchedFor
) -> StoryView | None:
    for match in found:
        if asked["event"] == name_of(match):
            return await story_of(match, sources, ops, body=asked["body"])
    return None


def _told(
    events: list[MatchView],
    sources: Sources,
    ops: Admin | None,
    story: StoryView | None,
    *,
    more: bool,
) -> Found:
    looked_in = [
        LookedInView(name=name, back_to=None if since is None else utc(since))
        for name, since in sources.reach.items()
    ]
    if ops is not None:
        looked_in.append(LookedInView(name="store", back_to=None))
    return Found(
        events=events,
        more=more,
        looked_in=looked_in,
        skipped=sources.skipped,
        story=story,
    )


def _again(sources: Sources, asked: AgainFor) -> AgainFound:
    """Each event once, in order of time: one page, or the number of all."""
    question = Question(
        keys=tuple(map(Glob, asked["match"])), since=asked["since"], until=asked["until"]
    )
    after = asked["after"] and ReplayPlace(*asked["after"])
    again = Again(asked["target"], question, asked["backfill"], after)
    size, damage = 0, sources.damage
    left_out = {"without_body": 0, "targets_cut": 0, "no_event": 0}
    found = AgainFound(
        events=[], number=0, first=None, last=None, left_out=left_out, damage="", more=False
    )
    for told in again.choose(sources):
        if again.is_unknown(told):
            left_out["targets_cut"] += 1
            continue
        if told.body is None:
            left_out["without_body"] += 1
            continue
        each = ResendFound(
            at=told.at,
            event_id=id_of(told),
            request_id=told.request_id,
            number=told.number,
            hops=told.hops,
            body=told.body,
        )
        if resend(**each) is None:
            left_out["no_event"] += 1
            continue
        found["number"] += 1
        found["first"] = told.at if found["first"] is None else found["first"]
        found["last"] = told.at
        if asked["page"]:
            found["events"].append(each)
            size += len(told.body)
            if found["number"] >= asked["page"] or size > _PAGE_BYTES:
                found["more"] = True
                break
    left_out |= {"damaged_segments": damage.segments, "damaged_lines": damage.lines}
    found["damage"] = str(damage) if damage else ""
    return found


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


async def _ops(settings: Settings) -> Admin | None:
    """The store, where it is there."""
    if settings.store is None:
        return None
    limits = StoreLimits(settings.store_max_bytes)
    try:
        return await look_into(settings.store, limits, read_only=True)
    except StartFailed:
        return None
