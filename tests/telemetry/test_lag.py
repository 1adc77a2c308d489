"""The watchdog: how late the loop runs is counted, and said once it is too late."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from router.telemetry.lag import SLOW, Watchdog
from router.telemetry.log import Log
from router.telemetry.log.writer import FIRST
from router.telemetry.metrics import Metrics
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

#: Longer than what is complained of.
BLOCK = SLOW + 0.1


@dataclass
class Watched:
    """A loop with a watchdog, and what that has said."""

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
        """How many lags were too long."""
        histogram = self.metrics.loop_lag
        return sum(histogram.counts[histogram.bounds.index(SLOW) + 1 :])

    async def block(self) -> None:
        """Block the loop, and wait until the watchdog has measured it."""
        before = self.slow
        time.sleep(BLOCK)  # noqa: ASYNC251 - that is what is watched for
        await until(lambda: self.slow != before)

    async def said(self, count: int) -> dict[str, Any]:
        """The `count`-th line, as soon as it is there."""
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


async def test_a_blocked_loop_is_counted_and_complained_of() -> None:
    """A block is in the histogram, in what the status shows, and in one warning that says how
    long it was."""
    async with watched() as (loop, watching):
        await loop.block()
        line = await loop.said(1)
        assert watching.worst > SLOW
    assert (line["happening"], line["level"]) == ("loop_lag", "warning")
    assert line["ms"] >= SLOW * 1000


async def test_a_loop_that_runs_is_measured_until_the_watchdog_is_stopped() -> None:
    """The watchdog measures all the time, whether something is wrong or not."""
    async with watched() as (loop, _):
        await until(lambda: loop.measured >= 5)
    measured = loop.measured
    await asyncio.sleep(0.05)
    assert loop.measured == measured


async def test_many_blocks_do_not_flood_the_log() -> None:
    """The first few are told one by one, what comes beyond in the same minute as one line."""
    loop = Watched()
    log = Log(loop.stream, "json")
    watching = Watchdog(loop.metrics, log)
    for _ in range(FIRST + 7):
        watching.note(0.3)
        watching.note(0.0)
    assert [line["ms"] for line in loop.lines] == [300] * FIRST
    log.close()
    assert loop.lines[-1]["count"] == 7


async def test_a_lag_that_nobody_feels_is_no_complaint() -> None:
    """Up to a quarter of a second is counted, and not complained of."""
    loop = Watched()
    watching = watchdog(loop)
    watching.note(SLOW)
    assert (loop.lines, watching.worst) == ([], SLOW)
    watching.note(SLOW + 0.001)
    assert len(loop.lines) == 1
