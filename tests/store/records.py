"""Records and deliveries for tests of stores."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import Any

from router.model.event import Event, OutboundEvent
from router.store.protocol import (
    DeliveryRow,
    Record,
    Settlement,
    Stage,
    State,
    Store,
    StoreLimits,
    event_size,
)

LIMITS = StoreLimits(max_bytes=64 * 1024 * 1024, keep_settled=60.0, keep_dead=600.0)

#: Seconds, more than any call needs.
T = 20.0
NOW = 1_000_000.0


_numbers = itertools.count()


def letter(body: bytes = b"{}", key: str = "a.b.c.1") -> OutboundEvent:
    event = Event("a", "b", "c", "1", key, body)
    digest = hashlib.sha256(body).digest()
    return OutboundEvent(event, digest, "request", "trace", "congo=t61rcWkgMzE,rojo=00f0", hops=1)


#: The size of an event with that body and key.
SIZE = event_size(letter().event)


def record(**fields: Any) -> Record:
    new = Record(
        event_id=f"event-{next(_numbers)}",
        stage=Stage.OPEN,
        first_at=NOW,
        requests=1,
        replied_at=NOW,
        due_at=NOW + 1,
        credit_until=NOW + 62,
        ends_at=NOW + 1000,
    )
    return replace(new, **fields)


def awaiting(target: str = "one") -> DeliveryRow:
    return DeliveryRow(target, State.AWAITING, "timeout")


def queued(target: str = "one", due_at: float = NOW) -> DeliveryRow:
    return DeliveryRow(target, State.QUEUED, "timeout", due_at)


def acknowledged(target: str = "one") -> DeliveryRow:
    return DeliveryRow(target, State.ACKNOWLEDGED, "acknowledged")


async def add(store: Store, *rows: DeliveryRow, body: bytes = b"{}", **fields: Any) -> Record:
    added = record(**fields)
    await store.add(added, letter(body), rows, T)
    return added


def settlement(of: Record, *rows: DeliveryRow, **fields: Any) -> Settlement:
    reached = [row.target for row in rows if row.state is State.ACKNOWLEDGED]
    digest = letter().digest
    return Settlement(replace(of, **fields), rows, digest, reached, NOW + 5)


async def found(store: Store, body: bytes = b"{}") -> dict[str, Record]:
    kept = await store.find(letter(body).digest, T)
    return {each.record.event_id: each.record for each in kept}


async def states(store: Store, of: Record, body: bytes = b"{}") -> dict[str, State]:
    for kept in await store.find(letter(body).digest, T):
        if kept.record.event_id == of.event_id:
            return {row.target: row.state for row in kept.rows}
    return {}
