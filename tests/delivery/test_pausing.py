"""How a process follows the pauses in its store, on a real one."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from router.delivery.observer import Observer
from router.delivery.pausing import PAUSES_EVERY, Pausing
from router.store.admin import pause, resume
from router.store.protocol import Pause, StoreLimits
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio

LIMITS = StoreLimits(1 << 30)


class Scene:
    """A store, a person beside it, and what one process makes of both; the test moves its clock."""

    time = 1_000_000.0
    ops: SqliteAdmin
    pausing: Pausing

    def __init__(self, path: Path) -> None:
        self.path = path
        #: What is held back after the last look.
        self.held: list[str] = []
        self.told: list[str] = []

    def now(self) -> float:
        return self.time

    def hold(self, pauses: Collection[Pause], now: float) -> None:
        assert now == self.time
        self.held = [each.target for each in pauses]

    def paused(self, pause: Pause) -> None:
        self.told.append(f"{pause.target} paused by {pause.who}")

    def resumed(self, pause: Pause) -> None:
        self.told.append(f"{pause.target} resumed by {pause.resumed_by or 'nobody'}")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    path = tmp_path / "store.db"
    scene = Scene(path)
    store = await SqliteStore.open(path, LIMITS, now=scene.now)
    scene.ops = await SqliteAdmin.open(path, LIMITS, now=scene.now)
    scene.pausing = Pausing(store, scene.hold, cast("Observer", scene))
    try:
        yield scene
    finally:
        await scene.ops.close()
        await store.close()


def test_a_pause_is_known_within_a_second() -> None:
    """Half of it is for the look itself."""
    assert PAUSES_EVERY <= 0.5


async def test_each_change_is_told_once(scene: Scene) -> None:
    """However often it is looked at."""
    await scene.pausing.look()
    assert (scene.held, scene.told) == ([], [])
    await pause(scene.ops, "one", "10m", "a move", "ops")
    for _ in range(3):
        await scene.pausing.look()
    assert (scene.held, scene.told) == (["one"], ["one paused by ops"])
    await pause(scene.ops, "one", "20m", "a longer move", "night")
    await scene.pausing.look()
    await resume(scene.ops, "one", "day")
    for _ in range(3):
        await scene.pausing.look()
    assert (scene.held, scene.told[1:]) == ([], ["one paused by night", "one resumed by day"])


async def test_what_is_known_outlives_the_store(scene: Scene) -> None:
    """A target is not called because the store is away; and the pause ends at its time."""
    await pause(scene.ops, "one", "10m", "a move", "ops")
    await scene.pausing.look()
    with closing(sqlite3.connect(scene.path)) as breaking:
        breaking.execute("DROP TABLE pauses")
    scene.time += 599
    await scene.pausing.look()
    assert scene.held == ["one"]
    scene.time += 1
    await scene.pausing.look()
    assert (scene.held, scene.told[1:]) == ([], ["one resumed by nobody"])
