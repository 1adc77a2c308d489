"""Questions of the API to the store."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from router.ops.api.parts import Stored
from router.store.protocol import StoreLimits
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore
from router.telemetry.log import Log

pytestmark = pytest.mark.anyio

LIMITS = StoreLimits(1 << 30)


async def test_questions_come_one_after_the_other(tmp_path: Path) -> None:
    """One that is broken off interrupts what the store is asked at that moment: that must be its
    own."""
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path, LIMITS)
    stored = Stored(lambda: SqliteAdmin.open(path, LIMITS), Log(io.StringIO()))

    async def ask() -> None:
        async with stored.question() as ops:
            await ops.actions(1)

    async with stored.question():
        second = asyncio.create_task(ask())
        done, _ = await asyncio.wait({second}, timeout=0.2)
        assert not done
    await second
    await stored.close()
    await store.close()
