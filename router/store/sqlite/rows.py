"""The store's methods as SQL on one connection; each runs inside the caller's transaction."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Collection, Iterable, Sequence

from router.model.event import FIELDS, Letter
from router.store.attempts import COLUMNS, LAST, Tried, is_kept, size_of
from router.store.attempts import values as values_of
from router.store.fullness import size_of as event_size
from router.store.promises import (
    UNSETTLED,
    DeliveryRow,
    Due,
    Ended,
    Notice,
    Record,
    Settlement,
    Stage,
    State,
    StoreFull,
    StoreLimits,
)
from router.store.sqlite.reading import TAKE, due, notice

#: Whatever it was: an acknowledged one is to be delivered again.
PUT = """
INSERT INTO deliveries (seq, target, state, reason, due_at, retries, changed_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET state = excluded.state, reason = excluded.reason,
    due_at = excluded.due_at, retries = excluded.retries, changed_at = excluded.changed_at,
    lease = '', action = NULL
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

#: The next one of a delivery, where that is there.
_KEEP = f"""
INSERT INTO attempts (seq, target, number, size, {", ".join(COLUMNS)})
SELECT seq, target, 1 + coalesce(
    (SELECT max(a.number) FROM attempts a WHERE a.seq = d.seq AND a.target = d.target), 0
), ?, {", ".join("?" * len(COLUMNS))}
FROM deliveries d WHERE seq = ? AND target = ? RETURNING number
"""  # noqa: S608 - our own words


class Rows:
    """The writing methods. What returns False or None, or raises StoreFull, has written nothing."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        limits: StoreLimits,
        full: Collection[str] = (),
    ) -> None:
        """`full` is what has no room for attempts: targets, and `""` for the whole store."""
        self._connection = connection
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._limits = limits
        self._full = full

    def add(self, record: Record, letter: Letter, rows: Sequence[DeliveryRow]) -> None:
        event = letter.event
        size = event_size(event)
        self._check_room(size, (row.target for row in rows if row.state in UNSETTLED), new=True)
        columns = {
            "event_id": record.event_id,
            "digest": letter.digest,
            **record.columns(),
            "size": size,
            "request_id": letter.request_id,
            "traceparent": letter.traceparent,
            "tracestate": letter.tracestate,
            "hops": letter.hops,
            **{name: getattr(event, name) for name in FIELDS},
        }
        marks = ", ".join("?" * len(columns))
        seq = self._execute(
            f"INSERT INTO events ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
            tuple(columns.values()),
        ).lastrowid
        assert seq is not None
        self._execute("INSERT INTO bodies VALUES (?, ?)", (seq, event.body))
        self._put(seq, rows, record.replied_at)
        self.touch([seq], record.replied_at)

    def settle(self, settlement: Settlement) -> bool:
        record, now = settlement.record, settlement.at
        closing = record.stage is Stage.CLOSED
        found = self._execute(
            "SELECT seq, size, spent OR seq <= (SELECT spent_up_to FROM credit) FROM events "
            "WHERE event_id = ? AND stage = 'open'",
            (record.event_id,),
        ).fetchone()
        if found is None:
            return False
        seq, size, spent = found
        self._check_room(size, self._new_unsettled(seq, settlement.rows), new=False)
        columns = {**record.columns(), "spent": spent or record.spent}
        self._execute(
            f"UPDATE events SET {', '.join(f'{name} = ?' for name in columns)} WHERE seq = ?",  # noqa: S608
            (*columns.values(), seq),
        )
        self._put(seq, settlement.rows, now)
        self.touch([seq], now)
        if closing:
            self._spend_others(seq, settlement)
        return True

    def supersede(
        self, event_ids: Collection[str], reached: Collection[str], now: float, by: str = ""
    ) -> None:
        for seq, stage in self._seqs(event_ids):
            for target in reached:
                if stage == Stage.OPEN:
                    self._execute(
                        "UPDATE deliveries SET state = 'superseded', changed_at = ?, lease = '', "
                        "later_event = ? "
                        "WHERE seq = ? AND target = ? AND state IN ('awaiting', 'queued')",
                        (now, by, seq, target),
                    )
                self._mark_later(seq, target, now, by)
            self._execute(
                "UPDATE events SET spent = 1, stage = CASE WHEN stage = 'open' AND NOT EXISTS ("
                "SELECT 1 FROM deliveries d WHERE d.seq = events.seq AND d.state = 'awaiting') "
                "THEN 'ended' ELSE stage END WHERE seq = ?",
                (seq,),
            )
            self.touch([seq], now)

    def missed(self, event_id: str, target: str, tried: Tried) -> None:
        reason = str(tried.attempt.reason)
        for seq, _ in self._seqs([event_id]):
            self._execute(
                "UPDATE deliveries SET reason = ? WHERE seq = ? AND target = ? AND reason = ''",
                (reason, seq, target),
            )
            self._keep(seq, DeliveryRow(target, State.QUEUED, reason, tried=tried))

    def spend(self, event_id: str) -> None:
        """Let a record's acknowledgements count no more."""
        self._execute("UPDATE events SET spent = 1 WHERE event_id = ?", (event_id,))

    def spend_all(self) -> None:
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

    def take(self, target: str, now: float, until: float, limit: int) -> tuple[Due, ...]:
        lease = uuid.uuid4().hex
        found = self._execute(TAKE, (target, now, limit)).fetchall()
        self._executemany(
            "UPDATE deliveries SET lease = ?, due_at = ? WHERE seq = ? AND target = ?",
            [(lease, until, row[0], target) for row in found],
        )
        return tuple(due(row, lease) for row in found)

    def finish(self, due: Due, row: DeliveryRow, now: float) -> bool:
        changed = self._execute(
            "UPDATE deliveries SET state = ?, reason = ?, due_at = ?, retries = ?, "
            "changed_at = ?, lease = '' WHERE target = ? AND lease = ? AND state = 'queued' "
            "AND seq = (SELECT seq FROM events WHERE event_id = ?) RETURNING seq",
            (row.state, row.reason, row.due_at, row.retries, now, row.target, due.lease,
             due.event_id),
        ).fetchall()  # fmt: skip
        for (seq,) in changed:
            self._keep(seq, row)
        if row.state is not State.QUEUED:
            self.touch((seq for (seq,) in changed), now)
        return bool(changed)

    def end(self, now: float, limit: int) -> tuple[Ended, ...]:
        over = self._execute(
            "SELECT seq, event_id, event_key, requests FROM events "
            "WHERE stage = 'open' AND ends_at <= ? ORDER BY ends_at LIMIT ?",
            (now, limit),
        ).fetchall()
        return tuple(self._end(now, *row) for row in over)

    def prune(self, now: float, limit: int) -> int:
        over = self._execute(
            "SELECT seq FROM events WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (now, limit)
        ).fetchall()
        for table in ("deliveries", "bodies", "events"):
            self._executemany(f"DELETE FROM {table} WHERE seq = ?", over)  # noqa: S608 - ours
        self._execute("DELETE FROM actions WHERE at <= ?", (now - self._limits.keep_dead,))
        self._execute("DELETE FROM notices WHERE at <= ?", (now - self._limits.keep_dead,))
        self._execute("DELETE FROM pauses WHERE until <= ?", (now - self._limits.keep_settled,))
        return len(over)

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
            "UPDATE deliveries SET state = 'dead', changed_at = ? "
            "WHERE seq = ? AND state = 'awaiting' RETURNING target, reason",
            (now, seq),
        ).fetchall()
        self._execute("UPDATE events SET stage = 'ended' WHERE seq = ?", (seq,))
        self.touch([seq], now)
        return Ended(event_id, key, requests, dict(dead))

    def _put(self, seq: int, rows: Sequence[DeliveryRow], now: float) -> None:
        self._executemany(
            _PUT,
            [(seq, r.target, r.state, r.reason, r.due_at, r.retries, now) for r in rows],
        )
        for row in rows:
            self._keep(seq, row)

    def _keep(self, seq: int, row: DeliveryRow) -> None:
        """Keep the attempt that a row brings, and let go of what is too many by it."""
        if row.tried is None or not is_kept(self._full, row.target):
            return
        values = (size_of(row.tried), *values_of(row.tried), seq, row.target)
        for (number,) in self._execute(_KEEP, values).fetchall():
            self._execute(
                "DELETE FROM attempts WHERE seq = ? AND target = ? AND number BETWEEN 2 AND ?",
                (seq, row.target, number - LAST),
            )

    def touch(self, seqs: Iterable[int], now: float) -> None:
        """Note from when on the events need not be shown any more."""
        keep = {"keep_dead": self._limits.keep_dead, "keep_settled": self._limits.keep_settled}
        self._executemany(_TOUCH, [{"seq": seq, "now": now, **keep} for seq in seqs])

    def _spend_others(self, seq: int, settlement: Settlement) -> None:
        others = self._execute(
            "UPDATE events SET spent = 1 WHERE digest = ? AND stage = 'open' AND seq <> ? "
            "RETURNING seq",
            (settlement.digest, seq),
        ).fetchall()
        for (other,) in others:
            for target in settlement.reached:
                self._mark_later(other, target, settlement.at, settlement.record.event_id)

    def _mark_later(self, seq: int, target: str, now: float, by: str) -> None:
        self._execute(
            "UPDATE deliveries SET acknowledged_later_at = ?, later_event = ? "
            "WHERE seq = ? AND target = ? AND state IN ('awaiting', 'dead')",
            (now, by, seq, target),
        )

    def _seqs(self, event_ids: Iterable[str]) -> list[tuple[int, str]]:
        query = "SELECT seq, stage FROM events WHERE event_id = ?"
        found = (self._execute(query, (event_id,)).fetchone() for event_id in event_ids)
        return [row for row in found if row is not None]

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
        rows, used = self.used(target)
        limits = self._limits
        return rows + 1 <= limits.max_rows * share and used + size <= limits.max_bytes * share

    def used(self, target: str) -> tuple[int, int]:
        """The rows and bytes that a target's unsettled deliveries take up; `""` is the whole."""
        rows, used = self._execute(
            "SELECT coalesce(sum(rows), 0), coalesce(sum(bytes), 0) FROM usage WHERE target = ?",
            (target,),
        ).fetchone()
        return int(rows), int(used)
