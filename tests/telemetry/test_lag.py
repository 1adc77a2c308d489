"""The watchdog of the loop, alarms at the marks of a level, and work that outlives its faults."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.lag import MARKS, SLACK, SLOW, Alarm, Watchdog, lasting
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from tests.support.command import PATIENCE
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

#: Longer than the lag that is logged.
BLOCK = SLOW + 0.1


@dataclass
class Watched:
    """The metrics and the log of a watchdog."""

    metrics: Metrics = field(default_factory=Metrics)
    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def measured(self) -> int:
        return sum(self.metrics.loop_lag.counts)

    @property
    def slow(self) -> int:
        """The number of lags that were too long."""
        histogram = self.metrics.loop_lag
        return sum(histogram.counts[histogram.bounds.index(SLOW) + 1 :])

    async def block(self) -> None:
        """Block the loop, and wait until the watchdog has measured it."""
        before = self.slow
        time.sleep(BLOCK)  # noqa: ASYNC251 - the watchdog must notice
        await until(lambda: self.slow != before)

    async def line(self, count: int) -> dict[str, Any]:
        """Wait for the `count`-th line."""
        await until(lambda: len(self.lines) >= count)
        return self.lines[count - 1]


def watchdog(loop: Watched) -> Watchdog:
    return Watchdog(loop.metrics, Log(loop.stream, "json"), period=0.01)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Watched, Watchdog]]:
    loop = Watched()
    watching = watchdog(loop)
    watching.start()
    try:
        yield loop, watching
    finally:
        watching.stop()


async def test_a_blocked_loop_is_counted_and_logged() -> None:
    """The lag is in the histogram, in the status, and in one warning."""
    async with watched() as (loop, watching):
        await loop.block()
        line = await loop.line(1)
        assert watching.worst > SLOW
    assert (line["happening"], line["level"]) == ("loop_lag", "warning")
    assert line["ms"] >= SLOW * 1000


async def test_a_loop_that_runs_is_measured_until_the_watchdog_is_stopped() -> None:
    """It measures all the time, not only when the loop is slow."""
    async with watched() as (loop, _):
        await until(lambda: loop.measured >= 5)
    measured = loop.measured
    await asyncio.sleep(0.05)
    assert loop.measured == measured


# Alarms.


def test_each_mark_is_passed_once() -> None:
    """A jump passes the highest mark, a fall the lowest. A level has to fall well below a mark
    before it can pass it again."""
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


# Lasting work.


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


async def test_work_can_be_cancelled() -> None:
    """A cancellation is not a fault."""
    stream = io.StringIO()
    task = asyncio.create_task(lasting(partial(asyncio.sleep, 60), Log(stream, "json")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.getvalue() == ""


async def test_a_fault_during_cancellation_ends_the_work() -> None:
    """The fault is logged, and the work is not started again."""
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
