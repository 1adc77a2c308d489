"""The store's methods as SQL on one connection: functions that read, and `Statements`, which
writes inside the caller's transaction."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from router.model.event import OutboundEvent
from router.store.protocol import (
    ASKED,
    COLUMNS,
    LAST,
    MAX_FOUND,
    RETRIED,
    UNSETTLED,
    DeliveryRow,
    Due,
    Early,
    Ended,
    Kept,
    Notice,
    Pause,
    Record,
    Settlement,
    Stage,
    State,
    StoreFull,
    StoreLimits,
    Tried,
    Usage,
    event_columns,
    letter_of,
    usage_of,
)

_FIND: Final = """
SELECT seq, event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at,
    spent OR seq <= (SELECT spent_up_to FROM credit)
FROM events WHERE digest = ? ORDER BY stage DESC LIMIT ?
"""
_DELIVERIES: Final = """
SELECT target, state, reason, due_at, retries, attempts, recover_at, lease <> ''
FROM deliveries WHERE seq = ?
"""

#: One step along the index from a target to the next, however many rows each has.
_QUEUE: Final = """
WITH RECURSIVE queued (target) AS (
    SELECT min(target) FROM deliveries WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT min(target) FROM deliveries WHERE state = 'queued' AND target > queued.target)
    FROM queued WHERE target IS NOT NULL
)
SELECT target, (SELECT min(due_at) FROM deliveries d
                WHERE d.state = 'queued' AND d.target = queued.target)
FROM queued WHERE target IS NOT NULL
"""

#: The first awaited delivery of the next target.
_NEXT_END: Final = """
SELECT target, ends_at FROM deliveries WHERE ends_at IS NOT NULL AND target > ?
ORDER BY target, ends_at LIMIT 1
"""
#: The first queued delivery of the next number of retries and target: `9e999` skips all rows of the
#: one before, which SQLite would scan.
_NEXT_DUE: Final = """
SELECT retries, target, due_at FROM deliveries
WHERE state = 'queued' AND (retries, target, due_at) > (?, ?, 9e999)
ORDER BY retries, target, due_at LIMIT 1
"""

_PAUSES: Final = "SELECT target, since, until, because, who, resumed_by FROM pauses"

_DUE: Final = """
SELECT d.seq, e.event_id, d.target, d.state, d.reason, d.due_at, d.retries, d.attempts,
    e.first_at, CASE e.stage WHEN 'open' THEN e.due_at ELSE 0.0 END,
    EXISTS (SELECT 1 FROM actions a WHERE a.seq = d.action AND a.verb = 'replay'),
    e.digest, e.request_id, e.traceparent, e.tracestate, e.hops,
    e.event_source, e.event_topic, e.event_type, e.event_status, e.event_key, b.body
FROM deliveries d CROSS JOIN events e USING (seq) CROSS JOIN bodies b USING (seq)
"""
_LEASE_DUE: Final = f"""{_DUE}
WHERE d.state = 'queued' AND d.target = ? AND d.due_at <= ? ORDER BY d.due_at LIMIT ?
"""
_LEASE_EARLY: Final = f"""{_DUE}
WHERE d.state IN ('awaiting', 'queued') AND d.target = ? AND d.recover_at <= ?
    AND (d.state = 'queued' OR e.due_at NOT BETWEEN ? AND ?)
ORDER BY d.recover_at, d.seq LIMIT ?
"""


#: Only unsettled events do not expire; they have an index.
_OLDEST: Final = "SELECT min(first_at) FROM events WHERE expires_at IS NULL"


def find(connection: sqlite3.Connection, digest: bytes) -> tuple[Kept, ...]:
    # Every statement is read to its end: an open one would keep the log from being cut.
    rows = connection.execute(_FIND, (digest, MAX_FOUND)).fetchall()
    events: list[Kept] = []
    for seq, *columns in rows:
        deliveries = connection.execute(_DELIVERIES, (seq,)).fetchall()
        events.append(Kept(Record.of(columns), tuple(map(DeliveryRow.of, deliveries))))
    return tuple(events)


def queue(connection: sqlite3.Connection) -> Mapping[str, float]:
    return dict(connection.execute(_QUEUE))


def _firsts(connection: sqlite3.Connection, next_: str, start: tuple[Any, ...]) -> Iterator[Any]:
    """Yield the first row of each group, by one step along an index for each."""
    after = start
    while row := connection.execute(next_, after).fetchone():
        yield row
        after = row[:-1]


def pauses(connection: sqlite3.Connection) -> tuple[Pause, ...]:
    return tuple(Pause(*row) for row in connection.execute(_PAUSES))


def notice(connection: sqlite3.Connection, name: str) -> Notice | None:
    row = connection.execute("SELECT what, at FROM notices WHERE name = ?", (name,)).fetchone()
    return None if row is None else Notice(*row)


def usage(connection: sqlite3.Connection, limits: StoreLimits) -> Usage:
    (oldest,) = connection.execute(_OLDEST).fetchone()
    used = usage_of(connection.execute("SELECT * FROM usage"), oldest, limits)
    ends = dict(_firsts(connection, _NEXT_END, ("",)))
    due = {(of, made): at for made, of, at in _firsts(connection, _NEXT_DUE, (-1, ""))}
    return replace(used, first_ends=ends, first_due=due)


#: Replaces a row in any state: a replay delivers an acknowledged one again.
PUT = """
INSERT INTO deliveries
    (seq, target, state, reason, due_at, retries, attempts, recover_at, changed_at)
VALUES (:seq, :target, :state, :reason, :due_at, :retries, :attempts, :recover_at, :now)
ON CONFLICT DO UPDATE SET state = excluded.state, reason = excluded.reason,
    due_at = excluded.due_at, retries = excluded.retries,
    attempts = max(attempts, excluded.attempts), recover_at = excluded.recover_at,
    changed_at = excluded.changed_at, lease = '', action = NULL
"""
_PUT = f"{PUT}WHERE deliveries.state <> 'acknowledged'"

_TOUCH = """
UPDATE events SET expires_at = CASE
    WHEN stage = 'open' OR EXISTS (SELECT 1 FROM deliveries d
        WHERE d.seq = events.seq AND d.state IN ('awaiting', 'queued')) THEN NULL
    WHEN EXISTS (SELECT 1 FROM deliveries d WHERE d.seq = events.seq AND d.state = 'dead')
        THEN :now + :keep_dead
    ELSE :now + :keep_settled END
WHERE seq = :seq
"""

#: Adds the next attempt of a delivery, if there is such a delivery.
_KEEP = f"""
INSERT INTO attempts (seq, target, number, size, {", ".join(COLUMNS)})
SELECT seq, target, 1 + coalesce(
    (SELECT max(a.number) FROM attempts a WHERE a.seq = d.seq AND a.target = d.target), 0
), ?, {", ".join("?" * len(COLUMNS))}
FROM deliveries d WHERE seq = ? AND target = ? RETURNING number
"""  # noqa: S608 - our own words


class Statements:
    """The methods that write. One that returns False or raises StoreFull has written nothing."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        limits: StoreLimits,
        full: Collection[str] = (),
    ) -> None:
        """`full` has the targets without room for attempts, `""` for the whole store."""
        self._connection = connection
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._limits = limits
        self._full = full

    def add(self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow]) -> int:
        """Return the event's number."""
        columns = event_columns(record, letter)
        unsettled = [row.target for row in rows if row.state in UNSETTLED]
        self._check_room(columns["size"], unsettled, new=True)
        marks = ", ".join("?" * len(columns))
        seq = self._execute(
            f"INSERT INTO events ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
            tuple(columns.values()),
        ).lastrowid
        assert seq is not None
        self._execute("INSERT INTO bodies VALUES (?, ?)", (seq, letter.event.body))
        self._put(seq, rows, record.replied_at)
        self.touch([seq], record.replied_at)
        return seq

    def settle(self, settlement: Settlement) -> bool:
        record, now = settlement.record, settlement.at
        closing = record.stage is Stage.CLOSED
        row = self._execute(
            "SELECT seq, size, spent OR seq <= (SELECT spent_up_to FROM credit) FROM events "
            "WHERE event_id = ? AND stage = 'open'",
            (record.event_id,),
        ).fetchone()
        if row is None:
            return False
        seq, size, revoked = row
        self._check_room(size, self._new_unsettled(seq, settlement.rows), new=False)
        columns = {**record.columns(), "spent": revoked or record.credit_revoked}
        self._execute(
            f"UPDATE events SET {', '.join(f'{name} = ?' for name in columns)} WHERE seq = ?",  # noqa: S608
            (*columns.values(), seq),
        )
        self._put(seq, settlement.rows, now)
        self.touch([seq], now)
        if closing:
            self._revoke_others(seq, settlement)
        return True

    def supersede(
        self, event_ids: Collection[str], reached: Collection[str], now: float, by: str = ""
    ) -> None:
        for seq, stage in self._seqs(event_ids):
            if stage == Stage.OPEN:
                self._executemany(
                    "UPDATE deliveries SET state = 'superseded', changed_at = ?, lease = '', "
                    "later_event = ? "
                    "WHERE seq = ? AND target = ? AND state IN ('awaiting', 'queued')",
                    [(now, by, seq, target) for target in reached],
                )
            self._mark_later(seq, reached, now, by)
            self._execute(
                "UPDATE events SET spent = 1, stage = CASE WHEN stage = 'open' AND NOT EXISTS ("
                "SELECT 1 FROM deliveries d WHERE d.seq = events.seq AND d.state = 'awaiting') "
                "THEN 'ended' ELSE stage END WHERE seq = ?",
                (seq,),
            )
            self.touch([seq], now)

    def missed(self, event_id: str, target: str, tried: Tried, ends_by: float) -> None:
        reason = str(tried.attempt.reason)
        for seq, _ in self._seqs([event_id]):
            self._execute(
                "UPDATE deliveries SET reason = ? WHERE seq = ? AND target = ? AND reason = ''",
                (reason, seq, target),
            )
            self._execute(
                "UPDATE deliveries SET recover_at = 0 "
                "WHERE seq = ? AND target = ? AND recover_at = ? AND lease = ''",
                (seq, target, ends_by),
            )
            self._keep(seq, DeliveryRow(target, State.QUEUED, reason, tried=tried))

    def revoke_credit(self, event_id: str) -> None:
        self._execute("UPDATE events SET spent = 1 WHERE event_id = ?", (event_id,))

    def revoke_all_credit(self) -> None:
        self._execute("UPDATE credit SET spent_up_to = coalesce((SELECT max(seq) FROM events), 0)")

    def acknowledge(self, event_id: str, target: str, now: float) -> bool:
        changed = self._execute(
            "UPDATE deliveries SET state = 'acknowledged', reason = 'acknowledged', "
            "changed_at = ?, lease = '' WHERE target = ? "
            "AND seq = (SELECT seq FROM events WHERE event_id = ?) RETURNING seq",
            (now, target, event_id),
        ).fetchall()
        self.touch((seq for (seq,) in changed), now)
        return bool(changed)

    def lease(
        self, target: str, now: float, until: float, limit: int, early: Early | None = None
    ) -> tuple[Due, ...]:
        if early is None:
            rows = self._execute(_LEASE_DUE, (target, now, limit)).fetchall()
        else:
            latest = ASKED if early.asked else now
            values = (target, latest, *early.request_window, limit)
            rows = self._execute(_LEASE_EARLY, values).fetchall()
        lease = uuid.uuid4().hex
        self._executemany(
            "UPDATE deliveries SET lease = ?1, recover_at = ?2, due_at = CASE state "
            "WHEN 'queued' THEN ?2 ELSE due_at END WHERE seq = ?3 AND target = ?4",
            [(lease, until, row[0], row[2]) for row in rows],
        )
        return tuple(Due.of(row[1:], letter_of(row[11:]), lease) for row in rows)

    def finish(self, due: Due, row: DeliveryRow, now: float) -> bool:
        changed = self._execute(
            "UPDATE deliveries SET state = :state, reason = :reason, due_at = :due_at, "
            "retries = :retries, attempts = :attempts, recover_at = :recover_at, "
            "changed_at = :now, lease = '' WHERE target = :target AND lease = :lease "
            "AND seq = (SELECT seq FROM events WHERE event_id = :event_id) RETURNING seq",
            {**row.columns(), "now": now, "lease": due.lease, "event_id": due.event_id},
        ).fetchall()
        for (seq,) in changed:
            self._keep(seq, row)
        if row.state not in RETRIED:
            self.touch((seq for (seq,) in changed), now)
        return bool(changed)

    def end(self, now: float, limit: int) -> tuple[Ended, ...]:
        rows = self._execute(
            "SELECT seq, event_id, event_key, requests FROM events "
            "WHERE stage = 'open' AND ends_at <= ? ORDER BY ends_at LIMIT ?",
            (now, limit),
        ).fetchall()
        return tuple(self._end(now, *row) for row in rows)

    def prune(self, now: float, limit: int) -> list[bytes]:
        """Return the digests of the events that were deleted."""
        expired = self._execute(
            "SELECT seq, digest FROM events WHERE expires_at <= ? ORDER BY expires_at LIMIT ?",
            (now, limit),
        ).fetchall()
        for table in ("deliveries", "bodies", "events"):
            seqs = [(seq,) for seq, _ in expired]
            self._executemany(f"DELETE FROM {table} WHERE seq = ?", seqs)  # noqa: S608 - ours
        self._execute("DELETE FROM actions WHERE at <= ?", (now - self._limits.keep_dead,))
        self._execute("DELETE FROM notices WHERE at <= ?", (now - self._limits.keep_dead,))
        self._execute("DELETE FROM pauses WHERE until <= ?", (now - self._limits.keep_settled,))
        return [digest for _, digest in expired]

    def notify(self, name: str, new: Notice, before: Notice | None) -> bool:
        if notice(self._connection, name) not in (None, before, new):
            return False
        self._execute(
            "INSERT OR REPLACE INTO notices (name, what, at) VALUES (?, ?, ?)",
            (name, new.what, new.at),
        )
        return True

    def _end(self, now: float, seq: int, event_id: str, key: str, requests: int) -> Ended:
        dead = self._execute(
            "UPDATE deliveries SET state = 'dead', changed_at = ?, lease = '' "
            "WHERE seq = ? AND state = 'awaiting' RETURNING target, reason",
            (now, seq),
        ).fetchall()
        self._execute("UPDATE events SET stage = 'ended' WHERE seq = ?", (seq,))
        self.touch([seq], now)
        return Ended(event_id, key, requests, dict(dead))

    def _put(self, seq: int, rows: Sequence[DeliveryRow], now: float) -> None:
        self._executemany(_PUT, [{**row.columns(), "seq": seq, "now": now} for row in rows])
        for row in rows:
            self._keep(seq, row)

    def _keep(self, seq: int, row: DeliveryRow) -> None:
        """Keep the attempt of a row, and delete the oldest but one if there are too many."""
        if (tried := row.attempt_to_keep(self._full)) is None:
            return
        values = (tried.size, *tried.values, seq, row.target)
        for (number,) in self._execute(_KEEP, values).fetchall():
            self._execute(
                "DELETE FROM attempts WHERE seq = ? AND target = ? AND number BETWEEN 2 AND ?",
                (seq, row.target, number - LAST),
            )

    def touch(self, seqs: Iterable[int], now: float) -> None:
        """Set when the events expire."""
        keep = {"keep_dead": self._limits.keep_dead, "keep_settled": self._limits.keep_settled}
        self._executemany(_TOUCH, [{"seq": seq, "now": now, **keep} for seq in seqs])

    def _revoke_others(self, seq: int, settlement: Settlement) -> None:
        others = self._execute(
            "UPDATE events SET spent = 1 WHERE digest = ? AND stage = 'open' AND seq <> ? "
            "RETURNING seq",
            (settlement.digest, seq),
        ).fetchall()
        for (other,) in others:
            self._mark_later(other, settlement.reached, settlement.at, settlement.record.event_id)

    def _mark_later(self, seq: int, reached: Iterable[str], now: float, by: str) -> None:
        self._executemany(
            "UPDATE deliveries SET acknowledged_later_at = ?, later_event = ? "
            "WHERE seq = ? AND target = ? AND state IN ('awaiting', 'dead')",
            [(now, by, seq, target) for target in reached],
        )

    def _seqs(self, event_ids: Iterable[str]) -> list[tuple[int, str]]:
        query = "SELECT seq, stage FROM events WHERE event_id = ?"
        return [row for name in event_ids for row in self._execute(query, (name,)).fetchall()]

    def _new_unsettled(self, seq: int, rows: Iterable[DeliveryRow]) -> list[str]:
        query = "SELECT 1 FROM deliveries WHERE seq = ? AND target = ?"
        unsettled = (row.target for row in rows if row.state in UNSETTLED)
        return [name for name in unsettled if not self._execute(query, (seq, name)).fetchone()]

    def _check_room(self, size: int, targets: Iterable[str], *, new: bool) -> None:
        limits = self._limits
        if new and not self._fits("", size, 1.0):
            raise StoreFull
        if over := [target for target in targets if not self._fits(target, size, limits.share)]:
            raise StoreFull(over)

    def _fits(self, target: str, size: int, share: float) -> bool:
        return self.used(target) + size <= self._limits.max_bytes * share

    def used(self, target: str) -> int:
        """Return the bytes of a target's unsettled deliveries, `""` for all events."""
        (used,) = self._execute(
            "SELECT coalesce(sum(bytes), 0) FROM usage WHERE target = ?", (target,)
        ).fetchone()
        return int(used)
