"""People's work with a store's file, on a connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from router.routing.index import Glob
from router.store import queries
from router.store.admin import START, Action, Count, Dossier, Entry, Resend, Resent, Selection
from router.store.protocol import RETRIED, DeliveryRow, Pause, State, StoreLimits
from router.store.queries import Dialect, Query, Values, event_size, fitting
from router.store.sqlite.file import Owner, open_existing, open_in_thread, translated
from router.store.sqlite.statements import PUT, Statements, letter, pauses

T = TypeVar("T")

#: `NOT INDEXED`: pages follow the table itself, which is in their order. Rows from an index would
#: have to be sorted for each page.
_PAGES = "deliveries d NOT INDEXED CROSS JOIN events e USING (seq)"
_COUNTS = "deliveries d CROSS JOIN events e USING (seq)"

_EVENT = """
SELECT event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at,
    spent OR seq <= (SELECT spent_up_to FROM credit),
    digest, request_id, traceparent, tracestate, hops,
    event_source, event_topic, event_type, event_status, event_key, body
FROM events JOIN bodies USING (seq) WHERE event_id = ?
"""

_RECORD = """
INSERT INTO actions (action_id, verb, who, what, at, deliveries) VALUES (?, ?, ?, ?, ?, 0)
ON CONFLICT DO UPDATE SET deliveries = deliveries RETURNING seq
"""

#: Only if it has not changed since the query. Its lease ends, so an attempt in flight changes
#: nothing; only a delivery that is in flight is not to be sent once more. A delivery is not awaited
#: from a caller that has given up.
_CHANGE = """
UPDATE deliveries SET state = CASE
        WHEN ?1 = 'awaiting' AND (SELECT stage FROM events e WHERE e.seq = deliveries.seq) <> 'open'
        THEN 'dead' ELSE ?1 END,
    reason = ?, due_at = ?, retries = ?, recover_at = ?, changed_at = ?, action = ?,
    lease = '', was_state = state, was_reason = reason
WHERE seq = ? AND target = ? AND state = ? AND acknowledged_later_at IS ?
    AND (state <> ?1 OR lease = '' OR recover_at <= ?6) RETURNING seq
"""

_STATE_OF = """
SELECT e.seq, d.state, d.action
FROM events e LEFT JOIN deliveries d ON d.seq = e.seq AND d.target = ? WHERE e.event_id = ?
"""


class SqliteAdmin:
    """Works in threads, one call after another; a cancelled call is interrupted.

    In the router's process it shares the file with the store. Elsewhere it owns the file until it
    is closed, unless it is read-only, which is possible beside a running router.
    """

    def __init__(
        self,
        owner: Owner | None,
        connection: sqlite3.Connection,
        limits: StoreLimits,
        now: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._limits = limits
        self._lock = threading.Lock()
        self.now = now

    @classmethod
    async def open(
        cls,
        path: Path,
        limits: StoreLimits,
        now: Callable[[], float] = time.time,
        *,
        read_only: bool = False,
    ) -> SqliteAdmin:
        """Raises StartFailed, with one line, for a file that cannot be used. Makes none."""
        opening = partial(open_existing, path, read_only=read_only)
        owner, connection = await open_in_thread(opening)
        return cls(owner, connection, limits, now)

    async def counts(self, selection: Selection) -> tuple[Count, ...]:
        return await self._call(partial(_counts, selection=selection))

    async def pages(
        self, selection: Selection, size: int, after: tuple[int, str] = START
    ) -> AsyncIterator[tuple[Entry, ...]]:
        while page := await self._call(partial(_page, selection=selection, after=after, size=size)):
            yield page
            after = (page[-1].seq, page[-1].row.target)

    async def dossier(self, event_id: str) -> Dossier | None:
        return await self._call(partial(_dossier, event_id=event_id))

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        now = self.now()
        return await self._call(
            lambda connection: _act(connection, self._limits, action, entries, now)
        )

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Resent:
        now = self.now()
        if self._owner is not None:
            for event in events:
                self._owner.known.add(event.letter.digest)
        return await self._call(
            lambda connection: _resend(connection, self._limits, action, target, events, now)
        )

    async def actions(self, limit: int) -> tuple[Action, ...]:
        return await self._call(partial(_actions, limit=limit))

    async def nodes(self) -> None:
        return None

    async def pauses(self) -> tuple[Pause, ...]:
        return await self._call(pauses)

    async def put_pause(self, pause: Pause) -> None:
        await self._call(partial(_put_pause, pause=pause))

    async def end_pause(self, target: str, who: str) -> Pause | None:
        return await self._call(partial(_end_pause, target=target, who=who, now=self.now()))

    async def close(self) -> None:
        with self._lock:
            self._connection.close()
        if self._owner is not None:
            self._owner.release()

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.to_thread(self._locked, work)
        except asyncio.CancelledError:
            self._connection.interrupt()
            raise

    def _locked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                raise translated(error) from None


def _counts(connection: sqlite3.Connection, selection: Selection) -> tuple[Count, ...]:
    rows = _rows(connection, _dialect(connection, _COUNTS).counts(selection))
    return tuple(map(queries.count, rows))


def _page(
    connection: sqlite3.Connection, selection: Selection, after: tuple[int, str], size: int
) -> tuple[Entry, ...]:
    rows = _rows(connection, _dialect(connection, _PAGES).page(selection, after, size))
    return tuple(map(queries.entry, rows))


def _dossier(connection: sqlite3.Connection, event_id: str) -> Dossier | None:
    event = connection.execute(_EVENT, (event_id,)).fetchone()
    if event is None:
        return None
    entries = _page(connection, Selection(event_ids=(event_id,)), START, sys.maxsize)
    tried = _rows(connection, _dialect(connection, _PAGES).attempts(event_id))
    return Dossier(queries.record(event[:9]), letter(event[9:]), entries, queries.attempts(tried))


def _actions(connection: sqlite3.Connection, limit: int) -> tuple[Action, ...]:
    rows = _rows(connection, _dialect(connection, _PAGES).actions(limit))
    return tuple(map(queries.action, rows))


def _dialect(connection: sqlite3.Connection, tables: str) -> Dialect:
    return Dialect(tables, "e.event_key", partial(_fits, connection), _known)


def _known(word: str) -> str:
    return f"""{word} IN (e.event_id, e.request_id, substr(e.traceparent, 4, 32))
        OR (length({word}) > 5 AND instr(lower(hex(e.digest)), {word}) = 1)
        OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq
            AND instr(b.body, CAST('"' || {word} || '"' AS BLOB)))"""  # noqa: S608


def _fits(connection: sqlite3.Connection, values: Values, keys: tuple[Glob, ...]) -> str:
    """Python decides it; a query may have several such functions."""
    name = f"fits_{len(values)}"
    connection.create_function(name, 1, lambda key: any(glob.matches(key) for glob in keys))
    return f"{name}(e.event_key)"


def _rows(connection: sqlite3.Connection, query: Query) -> sqlite3.Cursor:
    values = {str(number): value for number, value in enumerate(query.values, 1)}
    return connection.execute(query.sql, values)


def _act(
    connection: sqlite3.Connection,
    limits: StoreLimits,
    action: Action,
    entries: Sequence[Entry],
    now: float,
) -> int:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        number = _recorded(connection, action)
        changed = [
            row
            for entry in entries
            if action.verb.fits(entry.row)
            for row in connection.execute(
                _CHANGE, (*_after(action.verb.acted(entry, now)), now, number, *_before(entry))
            ).fetchall()
        ]
        connection.execute(
            "UPDATE actions SET deliveries = deliveries + ? WHERE seq = ?", (len(changed), number)
        )
        Statements(connection, limits).touch((seq for (seq,) in changed), now)
    return len(changed)


def _resend(
    connection: sqlite3.Connection,
    limits: StoreLimits,
    action: Action,
    target: str,
    events: Sequence[Resend],
    now: float,
) -> Resent:
    rows = Statements(connection, limits)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        number = _recorded(connection, action)
        sizes = [event_size(event.letter.event) for event in events]
        taken = fitting(sizes, rows.used(""), rows.used(target), limits)
        queued = [
            seq
            for event in events[:taken]
            if (seq := _resent(connection, rows, event, target, number, now)) is not None
        ]
        connection.executemany(
            "UPDATE deliveries SET action = ? WHERE seq = ? AND target = ?",
            [(number, seq, target) for seq in queued],
        )
        if taken or not events:
            place = events[taken - 1].place if taken else (None, None)
            connection.execute(
                "UPDATE actions SET deliveries = deliveries + ?, since = ?, place_at = ?, "
                "place_event = ? WHERE seq = ?",
                (len(queued), action.since, *place, number),
            )
        rows.touch(queued, now)
    return Resent(taken, len(queued))


def _put_pause(connection: sqlite3.Connection, pause: Pause) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO pauses (target, since, until, because, who, resumed_by) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        astuple(pause),
    )


def _end_pause(connection: sqlite3.Connection, target: str, who: str, now: float) -> Pause | None:
    ended = connection.execute(
        "UPDATE pauses SET until = ?1, resumed_by = ? WHERE target = ? AND until > ?1 "
        "RETURNING target, since, until, because, who, resumed_by",
        (now, who, target),
    ).fetchall()
    return Pause(*ended[0]) if ended else None


def _resent(
    connection: sqlite3.Connection,
    rows: Statements,
    event: Resend,
    target: str,
    action: int,
    now: float,
) -> int | None:
    """Queue an event, and return its number; None if its delivery stays as it is."""
    row = DeliveryRow(target, State.QUEUED, due_at=now)
    state_of = partial(connection.execute, _STATE_OF, (target, event.record.event_id))
    if (before := state_of().fetchone()) is None:
        rows.add(event.record, event.letter, [row])
        return int(state_of().fetchone()[0])
    seq, state, last_action = before
    if state in RETRIED or last_action == action:
        return None
    connection.execute(PUT, (seq, *queries.columns(row), now))
    return int(seq)


def _recorded(connection: sqlite3.Connection, action: Action) -> int:
    """Return the number of the action's row, which its first step adds."""
    number: int = connection.execute(
        _RECORD, (action.action_id, action.verb, action.who, action.what, action.at)
    ).fetchone()[0]
    return number


def _after(row: DeliveryRow) -> tuple[Any, ...]:
    return row.state, row.reason, row.due_at, row.retries, row.recover_at


def _before(entry: Entry) -> tuple[Any, ...]:
    return entry.seq, entry.row.target, entry.row.state, entry.acknowledged_later_at
