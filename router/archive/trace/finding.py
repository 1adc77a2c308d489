"""Finding events in the archive and in the store, as one list with the newest first."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

from router.archive.reading import Sources
from router.archive.trace import question as asking
from router.archive.trace.lines import CallerInfo, EventLine, RequestView, at_target
from router.archive.trace.question import Question
from router.model.event import SUCCESS
from router.store.admin import Admin, Dossier, Entry, Selection
from router.store.protocol import Stage
from router.telemetry.log.lines import stamp

#: The number of deliveries read from the store at a time, and of candidates held at a time.
_PAGE, _CANDIDATES = 500, 1000


@dataclass(frozen=True, slots=True)
class KeptStory:
    """An event in the store, with the deliveries that fit a question."""

    at: float
    event_id: str
    event_key: str
    entries: tuple[Entry, ...]


#: A line or an event that fits.
Match = EventLine | KeptStory


def name_of(match: Match) -> str:
    """Return the event's id; the request's id if no route matched."""
    return match.event_id if isinstance(match, KeptStory) else asking.name_of(match)


async def matches(
    question: Question, limit: int, sources: Sources, admin: Admin | None
) -> Iterator[Match]:
    """Return all that fits, the newest first: up to `limit` events of the store, and the lines of
    the archive, which are read during the iteration. An event may come several times.

    Raises StoreFailed; the iteration raises OSError."""
    stored = await kept(admin, question, limit) if admin is not None else ()
    return heapq.merge(sources.look(question), stored, key=lambda match: match.at, reverse=True)


# The store.


async def kept(admin: Admin, question: Question, limit: int) -> list[KeptStory]:
    """Return the newest events that fit, up to `limit`. Raises StoreFailed."""
    fitting: list[KeptStory] = []
    candidates: list[KeptStory] = []
    async for event in _candidates(admin, question):
        candidates.append(event)
        if len(candidates) == _CANDIDATES:
            fitting = await _newest(admin, question, limit, fitting, candidates)
            candidates = []
    return await _newest(admin, question, limit, fitting, candidates)


async def _newest(
    admin: Admin,
    question: Question,
    limit: int,
    fitting: list[KeptStory],
    candidates: list[KeptStory],
) -> list[KeptStory]:
    """Return the newest of both lists. A candidate is read as a whole only if it is among them."""
    known = {event.event_id for event in fitting}
    newest: list[KeptStory] = []
    for event in sorted([*fitting, *candidates], key=lambda event: event.at, reverse=True):
        if len(newest) == limit:
            break
        if event.event_id in known or await _fits(admin, question, event):
            newest.append(event)
    return newest


async def _candidates(admin: Admin, question: Question) -> AsyncIterator[KeptStory]:
    """Yield the events that may fit, in the order of recording."""
    entries: list[Entry] = []
    async for page in admin.pages(_selection(question), _PAGE):
        for entry in page:
            if entries and entries[-1].seq != entry.seq:
                yield _event(entries)
                entries = []
            entries.append(entry)
    if entries:
        yield _event(entries)


def _selection(question: Question) -> Selection:
    """Return the part of the question that the store decides. It selects at least what fits."""
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


async def _fits(admin: Admin, question: Question, event: KeptStory) -> bool:
    """Check what the store cannot: which field the text is in, and which target's code it is."""
    dossier = await admin.dossier(event.event_id)
    return dossier is not None and question.fits(caller_info(dossier))


def caller_info(dossier: Dossier) -> CallerInfo:
    """Return an event of the store in the form of a line."""
    record, letter = dossier.record, dossier.letter
    results = [
        at_target(entry.row.target, reason=entry.row.reason, skipped=entry.row.state)
        for entry in dossier.entries
    ]
    results += [
        at_target(target, reason=a.reason, status=a.status, code=a.code)
        for target, attempts in dossier.attempts.items()
        for a in (tried.attempt for tried in attempts)
    ]
    view: RequestView = {
        "what": "request",
        "at": stamp(record.replied_at),
        "event_key": letter.event.event_key,
        "request_id": letter.request_id,
        "code": SUCCESS if record.stage is Stage.CLOSED else "500",
        "ms": None,
        "request": record.requests,
        "of": None,
        "cause": "",
        "unrecorded": "",
        "unqueued": False,
        "routes": [],
        "targets": results,
    }
    return CallerInfo(
        record.replied_at,
        record.event_id,
        view,
        digest=letter.digest.hex(),
        bytes=len(letter.event.body),
        body=letter.event.body.decode("utf-8", "replace"),
        trace_id=letter.traceparent[3:35],
        hops=letter.hops,
    )


def table(newest: Iterable[Match], limit: int) -> tuple[list[Match], bool]:
    """Return the newest match of each of the first `limit` events, and whether there are more."""
    rows: dict[str, Match] = {}
    for match in newest:
        if len(rows) == limit and name_of(match) not in rows:
            return [*rows.values()], True
        rows.setdefault(name_of(match), match)
    return [*rows.values()], False
