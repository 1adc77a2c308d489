"""The events of a store that a question is about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from router.archive.trace.happenings import AtTarget, ToldCaller
from router.archive.trace.question import Question
from router.model.event import SUCCESS
from router.store.ops import Dossier, Entry, Ops, Selection
from router.store.promises import Stage

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


async def kept(ops: Ops, question: Question, limit: int) -> list[KeptStory]:
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
    ops: Ops, question: Question, limit: int, fitting: list[KeptStory], waiting: list[KeptStory]
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


async def _candidates(ops: Ops, question: Question) -> AsyncIterator[KeptStory]:
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


async def _fits(ops: Ops, question: Question, event: KeptStory) -> bool:
    """What the store has found by its bytes may be in another field, or of another target."""
    dossier = await ops.dossier(event.event_id)
    return dossier is not None and question.fits(as_told(dossier))


def as_told(dossier: Dossier) -> ToldCaller:
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
    return ToldCaller(
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
