"""People's work with a store's file, on a connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from router.routing.index import Glob
from router.store.admin import Action, Admin, Entry, Resend, Step, Values
from router.store.protocol import (
    RETRIED,
    DeliveryRow,
    Pause,
    State,
    StoreLimits,
    event_size,
)
from router.store.sqlite.file import Owner, open_existing, open_in_thread, translated
from router.store.sqlite.statements import PUT, Statements

T = TypeVar("T")

#: Adds the row of an action with its first step.
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

_PROGRESS = """
UPDATE actions SET deliveries = deliveries + ?, since = ?, place_at = ?, place_event = ?
WHERE seq = ?
"""


class SqliteAdmin(Admin):
    """Works in threads, one call after another; a cancelled call is interrupted.

    In the router's process it shares the file with the store. Elsewhere it owns the file until it
    is closed, unless it is read-only, which is possible beside a running router.
    """

    #: `NOT INDEXED`: pages follow the table itself, which is in their order. Rows from an index
    #: would have to be sorted for each page.
    _page_tables = "deliveries d NOT INDEXED CROSS JOIN events e USING (seq)"
    _count_tables = "deliveries d CROSS JOIN events e USING (seq)"
    _key = "e.event_key"
    _event_tables = "events e JOIN events l USING (seq) JOIN bodies b USING (seq)"
    _body = "b.body"

    def __init__(
        self,
        owner: Owner | None,
        connection: sqlite3.Connection,
        limits: StoreLimits,
        now: Callable[[], float],
    ) -> None:
        super().__init__(now)
        self._owner = owner
        self._connection = connection
        connection.create_function("fits", 2, lambda text, key: _glob(text).matches(key))
        self._limits = limits
        self._lock = threading.Lock()

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

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        return await self._write(partial(self._act, action, entries, self.now()))

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Step:
        return await self._write(partial(self._resend, action, target, events, self.now()))

    async def put_pause(self, pause: Pause) -> None:
        sql = (
            "INSERT OR REPLACE INTO pauses (target, since, until, because, who, resumed_by) "
            "VALUES ($1, $2, $3, $4, $5, $6)"
        )
        await self._read(sql, Values(astuple(pause)))

    async def end_pause(self, target: str, who: str) -> Pause | None:
        sql = (
            "UPDATE pauses SET until = $1, resumed_by = $2 WHERE target = $3 AND until > $1 "
            "RETURNING target, since, until, because, who, resumed_by"
        )
        ended = await self._read(sql, Values([self.now(), who, target]))
        return Pause(*ended[0]) if ended else None

    async def close(self) -> None:
        with self._lock:
            self._connection.close()
        if self._owner is not None:
            self._owner.release()

    async def _read(self, sql: str, values: Values) -> list[Any]:
        named = {str(number): value for number, value in enumerate(values, 1)}
        return await self._call(lambda: self._connection.execute(sql, named).fetchall())

    async def _write(self, work: Callable[[Statements], T]) -> T:
        """Run a function in a transaction."""

        def write() -> T:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                return work(Statements(self._connection, self._limits))

        return await self._call(write)

    async def _call(self, work: Callable[[], T]) -> T:
        def locked() -> T:
            with self._lock:
                try:
                    return work()
                except sqlite3.Error as error:
                    raise translated(error) from None

        try:
            return await asyncio.to_thread(locked)
        except asyncio.CancelledError:
            self._connection.interrupt()
            raise

    def _act(
        self, action: Action, entries: Sequence[Entry], now: float, statements: Statements
    ) -> int:
        number = self._record(action)
        changed: list[int] = []
        for entry in entries:
            if action.verb.fits(entry.row):
                after = action.verb.acted(entry, now)
                values = (
                    *(after.state, after.reason, after.due_at, after.retries),
                    *(after.recover_at, now, number),
                )
                before = (entry.seq, entry.row.target, entry.row.state, entry.acknowledged_later_at)
                rows = self._connection.execute(_CHANGE, (*values, *before))
                changed += [seq for (seq,) in rows]
        self._connection.execute(
            "UPDATE actions SET deliveries = deliveries + ? WHERE seq = ?", (len(changed), number)
        )
        statements.touch(changed, now)
        return len(changed)

    def _resend(
        self,
        action: Action,
        target: str,
        events: Sequence[Resend],
        now: float,
        statements: Statements,
    ) -> Step:
        number = self._record(action)
        sizes = [event_size(event.letter.event) for event in events]
        limits = self._limits
        room = min(
            limits.max_bytes * 0.5 - statements.used(""),
            limits.max_bytes * limits.share - statements.used(target),
        )
        taken = sum(size <= room for size in accumulate(sizes))
        row = DeliveryRow(target, State.QUEUED, due_at=now)
        queued = [self._queue(event, row, number, statements) for event in events[:taken]]
        seqs = [seq for seq in queued if seq is not None]
        self._connection.executemany(
            "UPDATE deliveries SET action = ? WHERE seq = ? AND target = ?",
            [(number, seq, target) for seq in seqs],
        )
        if taken or not events:
            place = events[taken - 1].place if taken else (None, None)
            self._connection.execute(_PROGRESS, (len(seqs), action.since, *place, number))
        statements.touch(seqs, now)
        return Step(taken, len(seqs))

    def _queue(
        self, event: Resend, row: DeliveryRow, number: int, statements: Statements
    ) -> int | None:
        """Queue an event, and return its number; None if its delivery stays as it is."""
        asked = (row.target, event.record.event_id)
        if (before := self._connection.execute(_STATE_OF, asked).fetchone()) is None:
            if self._owner is not None:  # before a look-up of the router can see it
                self._owner.known.add(event.letter.digest)
            return statements.add(event.record, event.letter, [row])
        seq, state, last_action = before
        if state in RETRIED or last_action == number or (event.once and state is not None):
            return None
        self._connection.execute(PUT, {**row.columns(), "seq": seq, "now": row.due_at})
        return int(seq)

    def _record(self, action: Action) -> int:
        """Return the number of the action's row."""
        number: int = self._connection.execute(
            _RECORD, (action.action_id, action.verb, action.who, action.what, action.at)
        ).fetchone()[0]
        return number

    def _fits(self, pattern: Glob, values: Values) -> str:
        return f"fits({values.put(pattern.pattern)}, e.event_key)"

    def _known(self, word: str) -> str:
        return f"""{word} IN (e.event_id, e.request_id, substr(e.traceparent, 4, 32))
            OR (length({word}) > 5 AND instr(lower(hex(e.digest)), {word}) = 1)
            OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq
                AND instr(b.body, CAST('"' || {word} || '"' AS BLOB)))"""  # noqa: S608


_glob = lru_cache(Glob)
