"""The event loop's health: how late it runs, alarms, and tasks that outlive their faults."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.metrics import Metrics

#: Seconds between two measurements, and the lag in seconds from which on a line is logged.
PERIOD, SLOW = 0.25, 0.25


class Watchdog:
    """A timer on the loop that measures how late it is called. A long block is measured when it
    ends. A process that was stopped or got no processor looks the same."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log
        self._lags: deque[float] = deque(maxlen=round(60 / PERIOD))
        self._timer: asyncio.TimerHandle | None = None

    @property
    def worst(self) -> float:
        """The worst lag of the last minute, in seconds."""
        return max(self._lags, default=0.0)

    def start(self) -> None:
        """Measure the running loop, until `stop`."""
        loop = asyncio.get_running_loop()
        due = loop.time() + PERIOD
        self._timer = loop.call_at(due, self._measure, loop, due)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        lag = max(0.0, loop.time() - due)
        self.start()
        self._metrics.loop_lag.observe(lag)
        self._lags.append(lag)
        if lag > SLOW:
            self._log.warning("loop_lag", ms=round(lag * 1000))


#: The marks of a level, in rising order: somebody should act at the first. A mark is left only so
#: far below it, so that a level that swings about it causes one alarm.
MARKS = (0.5, 0.75, 0.9)
SLACK = 0.05


class Passed(NamedTuple):
    """The highest mark passed by a rising level, or the lowest by a falling one."""

    mark: float
    rising: bool


class Alarm:
    """Follows one level and reports the marks that it passes."""

    def __init__(self) -> None:
        #: The number of marks passed.
        self._passed = 0

    def look(self, level: float) -> Passed | None:
        """Return the mark that the new level has passed, if any."""
        before = self._passed
        above = sum(level >= mark for mark in MARKS)
        not_below = sum(level > mark - SLACK for mark in MARKS)
        self._passed = max(above, min(before, not_below))
        if self._passed == before:
            return None
        rising = self._passed > before
        return Passed(MARKS[self._passed - 1 if rising else self._passed], rising)


#: Seconds after which work that has failed is started again.
AGAIN_AFTER = 1.0


async def lasting(work: Callable[[], Awaitable[None]], log: Log) -> None:
    """Run `work` until it returns or is cancelled. After a fault it is logged and started again,
    unless the fault occurred during the cancellation."""
    task = asyncio.current_task()
    while True:
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - nobody looks at a task that has ended
            log.error("fault", at=place_of(error))
        if task is not None and task.cancelling():
            return None
        await asyncio.sleep(AGAIN_AFTER)
