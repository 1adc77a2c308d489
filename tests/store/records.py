"""Records and deliveries for tests of stores."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

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


class Closing(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


@asynccontextmanager
async def using(opening: Awaitable[C]) -> AsyncIterator[C]:
    """Open a store, and close it at the end of the block."""
    store = await opening
    try:
        yield store
    finally:
        await store.close()


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
    return {row.target: row.state for row in await rows_of(store, of, body)}


async def rows_of(store: Store, of: Record, body: bytes = b"{}") -> tuple[DeliveryRow, ...]:
    kept = await store.find(letter(body).digest, T)
    return next((each.rows for each in kept if each.record.event_id == of.event_id), ())
