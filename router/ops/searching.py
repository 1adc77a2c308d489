"""A search of the archive and the store. It runs in a process of its own: a scan takes seconds,
and would keep the interpreter from callbacks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypedDict

from router.archive.reading import InventoryView, Question, Sources, Word
from router.archive.trace.lines import CallerInfo
from router.archive.trace.replay import Again, id_of, resend
from router.archive.trace.views import MatchView, StoryView, match_view, matches, story_of, table
from router.config.settings import Settings, archive_folder
from router.model.errors import StartFailed
from router.routing.index import Glob
from router.store.admin import Admin, ReplayPlace
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from router.telemetry.log.lines import utc

#: Receives a line about a search.
Note = Callable[[str], None]

#: The most characters of the bodies of one page, without its last.
_PAGE_BYTES = 4 * 1024 * 1024

#: Its niceness above the router's: callbacks come first.
_NICENESS = 5


class ReplayQuestion(TypedDict):
    """The events to replay to a target."""

    target: str
    #: Patterns of keys.
    match: list[str]
    since: float | None
    until: float
    backfill: bool
    #: The time and the id of the last event that was taken.
    after: tuple[float, str] | None
    #: The number of events to return; 0 to count all of them.
    page: int


class ReplayEvent(TypedDict):
    """An event to replay, as its line has it."""

    at: float
    event_id: str
    request_id: str
    number: int | None
    hops: int
    body: str


class ReplayAnswer(TypedDict):
    """The events to replay that the archive has."""

    events: list[ReplayEvent]
    number: int
    #: When the first and the last of them arrived, Unix time; None for none.
    first: float | None
    last: float | None
    #: The number of lines that were left out, by the reason.
    left_out: dict[str, int]
    #: Parts that could not be read; `""` for none.
    damage: str
    more: bool


class SearchQuestion(TypedDict, total=False):
    """A question about events; a list that is empty fits all. Or one of the last two members."""

    what: Sequence[str]
    targets: Sequence[str]
    #: All targets that are visible.
    seen: Sequence[str]
    codes: Sequence[str]
    since: float | None
    until: float | None
    failed: bool
    limit: int
    #: With bodies.
    body: bool
    #: The id of the only event, for its story.
    event: str
    inventory: Literal[True]
    again: ReplayQuestion


class LookedInView(TypedDict):
    """A place that was searched, and how far back it reaches."""

    name: str
    #: Null if it has nothing, or everything that is not settled.
    back_to: Annotated[str, ("format", "date-time")] | None


class SearchAnswer(TypedDict):
    """The answer to a question."""

    events: list[MatchView]
    #: There are more than the limit.
    more: bool
    looked_in: list[LookedInView]
    #: Lines that could not be read.
    skipped: int
    story: StoryView | None
    #: None if there is no archive.
    inventory: NotRequired[InventoryView | None]
    again: NotRequired[ReplayAnswer]


def search(settings: Settings) -> None:
    """Read a question from stdin, and write the answer to stdout. Raises RouterError."""
    os.nice(_NICENESS)
    question: SearchQuestion = json.load(sys.stdin)
    json.dump(asyncio.run(_search(settings, question)), sys.stdout)


async def _search(settings: Settings, question: SearchQuestion) -> SearchAnswer:
    folder = archive_folder(settings.archive, settings.store)
    if folder is not None and not folder.is_dir():
        folder = None
    is_archive_alone = "again" in question or "inventory" in question
    admin = None if is_archive_alone else await _store(settings)
    try:
        return await search_in(folder, admin, question, lambda _: None, lambda _: None)
    finally:
        if admin is not None:
            await admin.close()


async def _store(settings: Settings) -> Admin | None:
    """Open the store, if it can be opened."""
    if settings.store is None:
        return None
    limits = StoreLimits(settings.store_max_bytes)
    try:
        return await look_into(settings.store, limits, read_only=True)
    except StartFailed:
        return None


async def search_in(
    folder: Path | None, admin: Admin | None, question: SearchQuestion, progress: Note, note: Note
) -> SearchAnswer:
    """Answer a question from an archive and a store. Raises OSError and StoreFailed."""
    sources = Sources(folder, progress, note)
    answer = SearchAnswer(events=[], more=False, looked_in=[], skipped=0, story=None)
    if "inventory" in question:
        answer["inventory"] = sources.inventory()
    elif "again" in question:
        if folder is not None:
            answer["again"] = _again(sources, question["again"])
    elif "event" in question:
        found = await matches(_parsed(question), 1, sources, admin)
        if match := next(found, None):
            answer["story"] = await story_of(match, sources, admin, body=question["body"])
    else:
        limit = question["limit"]
        newest = await matches(_parsed(question), limit + 1, sources, admin)
        rows, answer["more"] = table(newest, limit)
        answer["events"] = [match_view(row, body=question["body"]) for row in rows]
    if folder is not None:
        back_to = None if sources.start is None else utc(sources.start)
        answer["looked_in"].append(LookedInView(name="archive", back_to=back_to))
    if admin is not None:
        answer["looked_in"].append(LookedInView(name="store", back_to=None))
    answer["skipped"] = sources.damaged_segments + sources.damaged_lines
    return answer


def _parsed(question: SearchQuestion) -> Question:
    return Question(
        words=tuple(map(Word, question.get("what", ()))),
        event_id=question.get("event", ""),
        since=question.get("since"),
        until=question.get("until"),
        targets=tuple(question.get("targets", ())),
        seen=tuple(question.get("seen", ())),
        codes=tuple(question.get("codes", ())),
        failed=question.get("failed", False),
    )


def _again(sources: Sources, replay: ReplayQuestion) -> ReplayAnswer:
    """Return one page of events in order of time, each once, or the number of all."""
    question = Question(
        keys=tuple(map(Glob, replay["match"])), since=replay["since"], until=replay["until"]
    )
    after = replay["after"] and ReplayPlace(*replay["after"])
    again = Again(replay["target"], question, replay["backfill"], after)
    size = 0
    left_out = {"without_body": 0, "targets_cut": 0, "no_event": 0}
    answer = ReplayAnswer(
        events=[], number=0, first=None, last=None, left_out=left_out, damage="", more=False
    )
    for line in again.choose(sources):
        event = None if line.body is None else _replay_event(line, line.body)
        if again.is_unknown(line):
            left_out["targets_cut"] += 1
        elif event is None:
            left_out["without_body"] += 1
        elif resend(**event) is None:
            left_out["no_event"] += 1
        else:
            answer["number"] += 1
            answer["first"] = line.at if answer["first"] is None else answer["first"]
            answer["last"] = line.at
            if replay["page"]:
                answer["events"].append(event)
                size += len(event["body"])
                if answer["number"] >= replay["page"] or size > _PAGE_BYTES:
                    answer["more"] = True
                    break
    left_out["damaged_segments"] = sources.damaged_segments
    left_out["damaged_lines"] = sources.damaged_lines
    answer["damage"] = sources.damage
    return answer


def _replay_event(line: CallerInfo, body: str) -> ReplayEvent:
    return ReplayEvent(
        at=line.at,
        event_id=id_of(line),
        request_id=line.view["request_id"],
        number=line.view["request"],
        hops=line.hops,
        body=body,
    )
