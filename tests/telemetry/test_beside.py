"""What goes on beside everything else, whatever fails in it."""

from __future__ import annotations

import asyncio
import io
import json
from functools import partial

import pytest

from router.telemetry.lag import lasting
from router.telemetry.log import Log
from tests.support.command import PATIENCE

pytestmark = pytest.mark.anyio


async def test_it_goes_on_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is told with its place, and what it has ended begins anew; it ends as it likes."""
    monkeypatch.setattr("router.telemetry.lag.AGAIN_AFTER", 0.0)
    stream, begun = io.StringIO(), list[int]()

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 2:
            raise ZeroDivisionError("canary")

    await lasting(work, Log(stream, "json"))
    assert begun == [0, 1]
    line = json.loads(stream.getvalue())
    assert (line["level"], line["happening"]) == ("error", "fault")
    assert line["at"].startswith("ZeroDivisionError in work, test_beside.py line ")
    assert "canary" not in stream.getvalue()


async def test_it_can_be_cancelled() -> None:
    """That is no fault."""
    stream = io.StringIO()
    task = asyncio.create_task(lasting(partial(asyncio.sleep, 60), Log(stream, "json")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.getvalue() == ""


async def test_a_fault_while_it_is_cancelled_ends_it() -> None:
    """It is told, and a stop waits for nothing more."""
    stream = io.StringIO()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ZeroDivisionError

    task = asyncio.create_task(lasting(work, Log(stream, "json")))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(PATIENCE):
        await task
    assert stream.getvalue().count('"fault"') == 1
