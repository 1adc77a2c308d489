"""The contents of the store at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from tests.chaos.callers import body_of
from tests.support.rows import Store, query


@dataclass(frozen=True, slots=True)
class Row:
    event_id: str
    stage: str
    digest: str
    target: str
    state: str
    reason: str
    changed_at: float


@dataclass(frozen=True, slots=True)
class Kept:
    rows: list[Row]
    open_events: list[str]

    def of(self, body: int) -> list[Row]:
        digest = sha256(body_of(body)).hexdigest()
        return [row for row in self.rows if row.digest == digest]


def read(store: Store) -> Kept:
    rows = query(
        store,
        "SELECT event_id, stage, encode(digest, 'hex'), target, state, reason, changed_at "
        "FROM deliveries JOIN events USING (seq) ORDER BY changed_at",
    )
    opened = query(store, "SELECT event_id FROM events WHERE stage = 'open'")
    return Kept(
        [
            Row(event_id, stage, digest, target, state, reason, float(changed_at))
            for event_id, stage, digest, target, state, reason, changed_at in rows
        ],
        [event_id for (event_id,) in opened],
    )


def unsettled(store: Store) -> int:
    """Count open records and unsettled deliveries."""
    ((count,),) = query(
        store,
        "SELECT (SELECT count(*) FROM events WHERE stage = 'open') + "
        "(SELECT count(*) FROM deliveries WHERE state IN ('awaiting', 'queued'))",
    )
    return int(count)
