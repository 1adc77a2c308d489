"""The event loop's health: how late it runs, alarms, and tasks that run beside it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.metrics import Metrics

#: How often the lag is measured, in seconds.
PERIOD = 0.25

#: From which lag on it is complained of, in seconds.
SLOW = 0.25

#: How many measurements `worst` looks back: a minute.
_LATELY = round(60 / PERIOD)


class Watchdog:
    """A timer on the loop, and how late each of its calls comes.

    Whoever blocks the loop delays the timer as well, so that a long block is seen once it ends. A
    process that was stopped, or got no processor, looks the same: its callers waited as long.
    """

    def __init__(
        self,
        metrics: Metrics,
        log: Log,
        look: Callable[[float], None] = lambda _: None,
        *,
        period: float = PERIOD,
    ) -> None:
        """`look` is called at each measurement, with the Unix time in seconds."""
        self._metrics = metrics
        self._log = log
        self._look = look
        self._period = period
        self._lately: deque[float] = deque(maxlen=_LATELY)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def worst(self) -> float:
        """The worst lag of the last minute, in seconds."""
        return max(self._lately, default=0.0)

    def start(self) -> None:
        """Watch the running loop, until `stop`."""
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._period
        self._timer = loop.call_at(self._due, self._measure, loop)

    def _measure(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        lag = max(0.0, now - self._due)
        self._arm(loop)
        self.note(lag)
        self._look(time.time())

    def note(self, lag: float) -> None:
        """Take one measurement."""
        self._metrics.loop_lag.observe(lag)
        self._lately.append(lag)
        if lag > SLOW:
            self._log.warning("loop_lag", ms=round(lag * 1000))


#: In rising order. From half on there is something to be done; the others say that nobody has.
MARKS = (0.5, 0.75, 0.9)

#: How far a level has to fall below a mark until that is over, so that one which swings about a
#: mark is told once.
SLACK = 0.05


@dataclass(frozen=True, slots=True)
class Passed:
    """A mark that a level has passed: upwards the highest one, downwards the lowest."""

    mark: float
    rising: bool


class Alarm:
    """Follows one level; says when it passes a mark, and nothing while it stays between two."""

    def __init__(self) -> None:
        #: How many marks, from the lowest, are passed.
        self._passed = 0

    def look(self, level: float) -> Passed | None:
        """What the new level has passed; after a start, what it is above already."""
        before = self._passed
        above = sum(level >= mark for mark in MARKS)
        not_below = sum(level > mark - SLACK for mark in MARKS)
        self._passed = max(above, min(before, not_below))
        if self._passed > before:
            return Passed(MARKS[self._passed - 1], rising=True)
        if self._passed < before:
            return Passed(MARKS[self._passed], rising=False)
        return None


#: Seconds after which what a fault has ended begins anew.
AGAIN_AFTER = 1.0


async def lasting(work: Callable[[], Awaitable[None]], log: Log) -> None:
    """Until it returns or is cancelled; a fault on its way out does not begin it anew."""
    task = asyncio.current_task()
    while True:
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - nobody looks at a task that has ended
            log.error("fault", at=place_of(error))
        if task is not None and task.cancelling():
            return None
        await asyncio.sleep(AGAIN_AFTER)
