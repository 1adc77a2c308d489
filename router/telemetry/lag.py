"""How late the event loop runs: measured all the time, and said when it is too late."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.telemetry.minutes import Minutes

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

    def __init__(self, metrics: Metrics, log: Log, *, period: float = PERIOD) -> None:
        self._metrics = metrics
        #: What the timer closes as well, minute by minute.
        self.minutes = Minutes(metrics, time.time())
        self._log = log
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
        self.minutes.look(time.time())

    def note(self, lag: float) -> None:
        """Take one measurement."""
        self._metrics.loop_lag.observe(lag)
        self._lately.append(lag)
        if lag > SLOW:
            self._log.warning("loop_lag", ms=round(lag * 1000))
