"""Finding events: in the archive and in the store, as one list, the newest first."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from router.archive.reading import Sources
from router.archive.trace.lines import AtTarget, CallerInfo, EventLine, LateAttempt
from router.archive.trace.question import Question
from router.archive.trace.story import Story, story
from router.model.event import SUCCESS
from router.store.admin import Admin, Dossier, Entry, Selection, paused
from router.store.protocol import Pause, Stage, State

#: How many deliveries are read at a time.
_PAGE = 500

#: How many events that may fit are held at a time.
_CANDIDATES = 1000


@dataclass(frozen=True, slots=True)
class KeptStory:
    """An event as the store has it, and the deliveries that fit."""

    at: float
    event_id: str
    event_key: str
    entries: tuple[Entry, ...]


async def kept(ops: Admin, question: Question, limit: int) -> list[KeptStory]:
    """The `limit` newest that fit, the newest first. Raises StoreFailed."""
    fitting: list[KeptStory] = []
    waiting: list[KeptStory] = []
    async for event in _candidates(ops, question):
        waiting.append(event)
        if len(waiting) == _CANDIDATES:
            fitting = await _newest(ops, question, limit, fitting, waiting)
            waiting = []
    return await _newest(ops, question, limit, fitting, waiting)


async def _newest(
    ops: Admin, question: Question, limit: int, fitting: list[KeptStory], waiting: list[KeptStory]
) -> list[KeptStory]:
    """The newest of those that are known to fit, and of those that may. An event is read whole only
    if it is among the newest."""
    known = {event.event_id for event in fitting}
    newest: list[KeptStory] = []
    for event in sorted([*fitting, *waiting], key=lambda event: event.at, reverse=True):
        if len(newest) == limit:
            break
        if event.event_id in known or await _fits(ops, question, event):
            newest.append(event)
    return newest


async def _candidates(ops: Admin, question: Question) -> AsyncIterator[KeptStory]:
    """All that may fit, in the order in which they were recorded."""
    entries: list[Entry] = []
    async for page in ops.pages(_selection(question), _PAGE):
        for entry in page:
            if entries and entries[-1].seq != entry.seq:
                yield _event(entries)
                entries = []
            entries.append(entry)
    if entries:
        yield _event(entries)


def _selection(question: Question) -> Selection:
    """What the store itself can decide: it may select too much, and never too little."""
    return Selection(
        targets=question.targets,
        event_ids=(question.event_id,) if question.event_id else (),
        keys=question.keys,
        until=question.until,
        known_by=tuple((word.text, word.keys) for word in question.words),
        changed_since=question.since,
        codes=question.codes,
        failed=question.failed,
    )


def _event(entries: list[Entry]) -> KeptStory:
    last = max(entry.changed_at for entry in entries)
    return KeptStory(last, entries[0].event_id, entries[0].event_key, tuple(entries))


async def _fits(ops: Admin, question: Question, event: KeptStory) -> bool:
    """What the store has found by its bytes may be in another field, or of another target."""
    dossier = await ops.dossier(event.event_id)
    return dossier is not None and question.fits(caller_info(dossier))


def caller_info(dossier: Dossier) -> CallerInfo:
    """What the store has of an event, as if one request had left it as its line."""
    record, letter = dossier.record, dossier.letter
    standing = (
        AtTarget(entry.row.target, reason=entry.row.reason, skipped=entry.row.state)
        for entry in dossier.entries
    )
    failed = (
        AtTarget(target, reason=a.reason, status=a.status, code=a.code)
        for target, attempts in dossier.attempts.items()
        for a in (each.attempt for each in attempts)
    )
    return CallerInfo(
        at=record.replied_at,
        event_id=record.event_id,
        request_id=letter.request_id,
        event_key=letter.event.event_key,
        code=SUCCESS if record.stage is Stage.CLOSED else "500",
        ms=None,
        number=record.requests,
        of=None,
        cause="",
        unrecorded="",
        unqueued=False,
        is_matched=True,
        routes=(),
        targets=(*standing, *failed),
        trace_id=letter.traceparent[3:35],
        digest=letter.digest.hex(),
        bytes=len(letter.event.body),
        changes=(),
        body=letter.event.body.decode("utf-8", "replace"),
        hops=letter.hops,
    )


#: What is known of an event, and fits.
Match = EventLine | KeptStory


async def matches(
    question: Question, limit: int, sources: Sources, ops: Admin | None
) -> Iterator[Match]:
    """All that fits, the newest first, of one event perhaps more than once: the store is asked for
    `limit` events, the rest is looked for as it is read. Raises StoreFailed; reading them raises
    OSError."""
    stored = await kept(ops, question, limit) if ops is not None else ()
    lines = sources.look(question)
    return heapq.merge(lines, stored, key=lambda each: each.at, reverse=True)


def name_of(match: Match) -> str:
    """The event's id; its request's where no route has matched it."""
    return match.event_id or (match.request_id if isinstance(match, CallerInfo) else "")


async def story_of(match: Match, sources: Sources, ops: Admin | None) -> Story:
    """Raises StoreFailed and OSError."""
    dossier: Dossier | None = None
    pauses: Sequence[Pause] = ()
    if ops is not None and match.event_id:
        dossier, pauses = await ops.dossier(match.event_id), await paused(ops)
    return story(sources.whole(match), dossier, pauses)


#: For how many more happenings a row waits for what it has not yet, so that one whose request was
#: long ago holds up no table.
_FURTHER = 5_000

#: What a target's last line says of how it stands.
_LATE = {"dead_letter": State.DEAD, "lost": "lost"}

#: As it stands with a target that still needs something.
_OPEN = {State.DEAD, State.QUEUED, State.AWAITING, "lost", "failed"}


@dataclass(slots=True)
class Row:
    """It grows by older happenings of its event, until it is whole."""

    newest: Match
    #: The last of its requests; None where none that fits has been met.
    told: CallerInfo | None = None
    #: How it stands with each target, as far as is known.
    _standing: dict[str, str] = field(default_factory=dict)

    def add(self, each: Match) -> None:
        match each:
            case CallerInfo():
                self.told = self.told or each
                for one in each.targets:
                    said = "failed" if one.failed else one.skipped
                    self._standing.setdefault(one.target, said)
            case LateAttempt():
                failed = State.QUEUED if each.failed else State.ACKNOWLEDGED
                self._standing.setdefault(each.tried.target, _LATE.get(each.happening, failed))
            case KeptStory():
                for entry in each.entries:
                    later = entry.acknowledged_later_at is not None
                    self._standing[entry.row.target] = "" if later else entry.row.state

    @property
    def is_whole(self) -> bool:
        return self.told is not None

    @property
    def open(self) -> dict[str, str]:
        """How it stands with the targets that still need something, or have failed for good."""
        return {name: said for name, said in sorted(self._standing.items()) if said in _OPEN}


class EventRows:
    """So many at most, each event once, the newest first, as soon as they are whole."""

    def __init__(self, newest: Iterator[Match], limit: int) -> None:
        self._newest = newest
        self._limit = limit
        #: There are more; known once all have been read.
        self.more = False

    def __iter__(self) -> Iterator[Row]:
        known: set[str] = set()
        waiting: deque[tuple[int, str]] = deque()
        unfinished: dict[str, Row] = {}
        for number, each in enumerate(self._newest):
            name = name_of(each)
            if name not in known:
                if len(known) == self._limit:
                    self.more = True
                else:
                    known.add(name)
                    unfinished[name] = Row(each)
                    waiting.append((number, name))
            if name in unfinished:
                unfinished[name].add(each)
            while waiting and _is_ready(unfinished[waiting[0][1]], number - waiting[0][0]):
                yield unfinished.pop(waiting.popleft()[1])
            if self.more and not waiting:
                return
        yield from (unfinished[name] for _, name in waiting)


def _is_ready(row: Row, further: int) -> bool:
    return row.is_whole or further >= _FURTHER


async def rows(question: Question, limit: int, sources: Sources, ops: Admin | None) -> EventRows:
    """Events that fit. Raises StoreFailed; reading them raises OSError."""
    return EventRows(await matches(question, limit + 1, sources, ops), limit)
