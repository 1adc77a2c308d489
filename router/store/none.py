"""No memory: every retry goes to every target, and optional targets get one attempt."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from router.model.event import Letter
from router.store.attempts import Tried
from router.store.nodes import Nodes
from router.store.pauses import Pause
from router.store.promises import (
    DeliveryRow,
    Due,
    Ended,
    Kept,
    Notice,
    Record,
    Settlement,
    StoreFailed,
    Usage,
)


class NoStore:
    """Remembers nothing, and says so: what would have to be durable is refused."""

    remembers = False
    nodes: Nodes | None = None

    def now(self) -> float:
        return time.time()

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        return ()

    async def add(
        self, record: Record, letter: Letter, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        raise StoreFailed("none")

    async def settle(self, settlement: Settlement, timeout: float) -> bool:
        return False

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        by: str = "",
    ) -> None:
        """There is nothing to supersede."""

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        return False

    async def missed(self, event_id: str, target: str, tried: Tried, timeout: float) -> None:
        """Nothing is kept."""

    async def spend_all(self, timeout: float) -> None:
        """There is no record to spend."""

    async def queue(self, timeout: float) -> Mapping[str, float]:
        return {}

    async def take(
        self, target: str, now: float, until: float, limit: int, timeout: float
    ) -> tuple[Due, ...]:
        return ()

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        return False

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        return ()

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        return 0

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        return ()

    async def notice(self, name: str, timeout: float) -> Notice | None:
        return None

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        return True

    async def usage(self, timeout: float) -> Usage:
        return Usage(0, 0, {}, 0.0)

    async def close(self) -> None:
        """Nothing is open."""
