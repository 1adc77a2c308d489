"""The watchdog of the loop, alarms at the marks of a level, and work that outlives its faults."""

from __future__ import annotations

import asyncio
import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.lag import MARKS, SLACK, SLOW, Alarm, Watchdog, lasting
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from tests.support.command import PATIENCE
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("block", [0.0, SLOW + 0.1])
async def test_the_loop_is_measured_until_the_watchdog_is_stopped(
    monkeypatch: pytest.MonkeyPatch, block: float
) -> None:
    """A long block is in the histogram, in the status, and in a warning."""
    monkeypatch.setattr("router.telemetry.lag.PERIOD", 0.01)
    metrics, stream = Metrics(), io.StringIO()
    watchdog = Watchdog(metrics, Log(stream, "json"))
    watchdog.start()
    try:
        time.sleep(block)  # noqa: ASYNC251 - the watchdog must notice
        await until(lambda: sum(metrics.loop_lag.counts) >= 5)
        assert watchdog.worst > SLOW or not block
        if block:
            line = json.loads(stream.getvalue().partition("\n")[0])
            assert (line["happening"], line["level"]) == ("loop_lag", "warning")
            assert line["ms"] >= SLOW * 1000
            assert metrics.loop_lag.sum > SLOW
    finally:
        watchdog.stop()
    measured = sum(metrics.loop_lag.counts)
    await asyncio.sleep(0.05)
    assert sum(metrics.loop_lag.counts) == measured


def test_each_mark_is_passed_once() -> None:
    """A jump passes the highest mark; only after a clear fall is a mark passed again."""
    alarm = Alarm()
    assert [alarm.look(level) for level in (0.49, 0.5, 0.46, 0.6, 0.92, 0.45, 0.5)] == [
        None, (0.5, True), None, None, (0.9, True), (0.5, False), (0.5, True),
    ]  # fmt: skip


@given(st.lists(st.floats(0.0, 1.5)))
def test_alarms_describe_the_level(levels: list[float]) -> None:
    """The alarms so far tell which marks the level is above, except for the slack."""
    alarm, marks = Alarm(), set[float]()
    for level in levels:
        if change := alarm.look(level):
            if change.rising:
                marks |= {mark for mark in MARKS if mark <= change.mark}
            else:
                marks -= {mark for mark in MARKS if mark >= change.mark}
        assert {mark for mark in MARKS if level >= mark} <= marks
        assert marks <= {mark for mark in MARKS if level > mark - SLACK}


async def test_work_is_started_again_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is logged with its place; the work may end by itself."""
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
    assert line["at"].startswith("ZeroDivisionError in work, test_lag.py line ")
    assert "canary" not in stream.getvalue()


@pytest.mark.parametrize("is_faulty", [False, True])
async def test_work_can_be_cancelled(is_faulty: bool) -> None:
    """A cancellation is not a fault. After a fault meanwhile, the work is not started again."""
    stream = io.StringIO()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            if is_faulty:
                raise ZeroDivisionError

    task = asyncio.create_task(lasting(work, Log(stream, "json")))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({task})
    assert task.cancelled() != is_faulty
    assert stream.getvalue().count('"fault"') == is_faulty
