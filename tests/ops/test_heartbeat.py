"""Heartbeat: a process learns about the others that share its store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from router.ops.insight import Heartbeat
from router.store.protocol import Node
from router.telemetry.metrics import Metrics
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

MINE = Node("mine", "host", 1, "", "1", "new", 60.0, True, {}, ())


class Shared:
    """The rows of the processes, in memory."""

    def __init__(self) -> None:
        self.configurations: Mapping[str, int] = {"new": 1, "old": 2}
        self.beats = 0

    async def beat(self, node: Node, timeout: float) -> Mapping[str, int]:
        self.beats += 1
        return self.configurations

    async def leave(self, node_id: str, timeout: float) -> None: ...


async def test_a_difference_is_timed_from_its_beginning() -> None:
    """The time grows from beat to beat while configurations differ, and is 0 afterwards."""
    shared, metrics = Shared(), Metrics()
    beating = asyncio.create_task(Heartbeat(shared, lambda: MINE, metrics, beat=0.01).run())
    await until(lambda: metrics.configurations_differ > 0.03 and shared.beats > 2)
    assert metrics.nodes == 3
    shared.configurations = {"new": 3}
    await until(lambda: metrics.configurations_differ == 0)
    beating.cancel()
    await asyncio.wait({beating})
