"""The events of a store that a question is about."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from router.archive.trace.happenings import AtTarget, ToldCaller
from router.archive.trace.question import Question
from router.model.event import SUCCESS
from router.store.ops import Dossier, Entry, Ops, Selection
from router.store.promises import Stage

#: How many deliveries are read at a time.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class KeptStory:
    """An event as the store has it, and the deliveries that fit."""

    at: float
    event_id: str
    event_key: str
    entries: tuple[Entry, ...]


async def kept(ops: Ops, question: Question, limit: int) -> list[KeptStory]:
    """The last `limit` that may fit and do, the newest first. Raises StoreFailed."""
    found: deque[KeptStory] = deque(maxlen=limit)
    async for event in _events(ops, question):
        found.append(event)
    fitting = [event for event in found if await _fits(ops, question, event)]
    return sorted(fitting, key=lambda event: event.at, reverse=True)


async def _events(ops: Ops, question: Question) -> AsyncIterator[KeptStory]:
    """In the order in which they were recorded, for each of the selections."""
    known: set[str] = set()
    for selection in _selections(question):
        entries: list[Entry] = []
        async for page in ops.pages(selection, _PAGE):
            for entry in page:
                if entries and entries[-1].seq != entry.seq:
                    yield _event(entries)
                    entries = []
                if entries or entry.event_id not in known:
                    known.add(entry.event_id)
                    entries.append(entry)
        if entries:
            yield _event(entries)


def _selections(question: Question) -> Iterator[Selection]:
    all_of_it = Selection(question.targets, since=question.since, until=question.until)
    if not question.words:
        yield all_of_it
        return
    yield replace(all_of_it, known_by=tuple(word.text for word in question.words))
    yield replace(all_of_it, keys=tuple(word.keys for word in question.words))


def _event(entries: list[Entry]) -> KeptStory:
    last = max(entry.changed_at for entry in entries)
    return KeptStory(last, entries[0].event_id, entries[0].event_key, tuple(entries))


async def _fits(ops: Ops, question: Question, event: KeptStory) -> bool:
    """What the store has found by its bytes may be in another field."""
    dossier = await ops.dossier(event.event_id)
    return dossier is not None and question.fits(as_told(dossier))


def as_told(dossier: Dossier) -> ToldCaller:
    """What the store has of an event's requests, as if the last of them had left its line."""
    record, letter = dossier.record, dossier.letter
    tried = tuple(
        AtTarget(entry.row.target, reason=entry.row.reason, skipped=entry.row.state)
        for entry in dossier.entries
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
        targets=tried,
        trace_id=letter.traceparent[3:35],
        digest=letter.digest.hex(),
        bytes=len(letter.event.body),
        changes=(),
        body=letter.event.body.decode("utf-8", "replace"),
    )
