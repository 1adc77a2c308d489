"""A sender follows the pauses in its store, on a real one."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from router.delivery.target.gate import BreakerState, Failing
from router.delivery.target.sender import Sender
from router.routing.target import Target
from router.store.admin import pause
from router.store.protocol import Pause, StoreLimits
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore
from router.telemetry.metrics import Metrics
from router.transport.native import NativePool

pytestmark = pytest.mark.anyio

LIMITS = StoreLimits(1 << 30)


class Scene:
    """A store, a person beside it, and a sender; the test moves the clock."""

    time = 1_000_000.0
    ops: SqliteAdmin
    store: SqliteStore

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reported: list[str] = []
        self.one = Target("one", "http://127.0.0.1/")
        self.sender = Sender([self.one], NativePool, 8, Metrics(), self)

    def now(self) -> float:
        return self.time

    async def is_paused(self) -> bool:
        await self.sender.read_pauses(self.store)
        return self.sender.room(self.one, 0.0) == 0

    def paused(self, pause: Pause) -> None:
        self.reported.append(f"{pause.target} paused by {pause.who}")

    def resumed(self, pause: Pause) -> None:
        self.reported.append(f"{pause.target} resumed by {pause.resumed_by or 'nobody'}")

    def breaker(self, target: Target, state: BreakerState) -> None: ...

    def failing(self, target: Target, failing: Failing) -> None: ...


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    path = tmp_path / "store.db"
    scene = Scene(path)
    scene.store = await SqliteStore.open(path, LIMITS, now=scene.now)
    scene.ops = await SqliteAdmin.open(path, LIMITS, now=scene.now)
    try:
        yield scene
    finally:
        await scene.ops.close()
        await scene.store.close()


async def test_what_is_known_outlives_the_store(scene: Scene) -> None:
    """A target is not called because the store is away; and the pause ends at its time."""
    await pause(scene.ops, "one", "10m", "a move", "ops")
    assert await scene.is_paused()
    with closing(sqlite3.connect(scene.path)) as breaking:
        breaking.execute("DROP TABLE pauses")
    scene.time += 599
    assert await scene.is_paused()
    scene.time += 1
    assert not await scene.is_paused()
    assert scene.reported[1:] == ["one resumed by nobody"]
