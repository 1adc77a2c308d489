"""What one target has for itself, and an attempt that is in flight on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from router.judge import judge
from router.metrics import Metrics
from router.model import Attempt
from router.places import Places
from router.routes import Target
from router.transport import Answer, Engine, Failure, Pool, lines_of

#: The longest that an attempt waits in line for a place, in seconds. Short, because whoever waits
#: holds a request in flight.
LINE_WAIT = 1.0


class Lane:
    """A target's connections, its places and its line; `share` bounds the two together.

    It keeps what it can of the lane that the target had before a reload.
    """

    def __init__(self, target: Target, engine: Engine, share: int, before: Lane | None) -> None:
        self.target = target
        self.limit = min(target.max_in_flight, share)
        if before is None or before.limit != self.limit:
            self.places = Places(self.limit, line=min(self.limit, share - self.limit))
        else:
            self.places = before.places
        same = before is not None and before.target.url == target.url
        self.pool: Pool = before.pool if before is not None and same else engine(target.url)
        #: The header lines that are the same for all its attempts.
        self.lines = lines_of(
            (
                (b"x-ebaas-target", target.name.encode("ascii")),
                *(
                    (name.encode("ascii"), value.reveal().encode("latin-1"))
                    for name, value in target.headers
                ),
            )
        )
        #: Attempts that have it in hand, in line or in flight: its pool stays open for them.
        self.in_use = 0
        #: Whether the last sweep found it idle, and nobody has used it since.
        self.was_idle = False

    def enter(self) -> None:
        self.in_use += 1
        self.was_idle = False

    def leave(self, _: object = None) -> None:
        self.in_use -= 1


class Flight(asyncio.Future[Attempt]):
    """An attempt in flight: it has a place, and its request is on its way.

    It ends once, with what its answer means; only then is its place given back. Cancelled, it ends
    its connection, and the place is given back as soon as that is done.
    """

    def __init__(
        self, lane: Lane, metrics: Metrics, clock: Callable[[], float], started: float
    ) -> None:
        """`started` is when it was decided to send, by time.monotonic()."""
        super().__init__(loop=asyncio.get_running_loop())
        self._lane = lane
        self._metrics = metrics
        self._clock = clock
        self._started = started
        self._exchange: asyncio.Future[Answer | Failure] | None = None

    def begin(self, lines: bytes, body: bytes) -> None:
        """Send; a fault of our own is how it ends then. A place was taken for it."""
        lane = self._lane
        lane.enter()
        left = lane.target.timeout - (time.monotonic() - self._started)
        try:
            self._exchange = lane.pool.post(lines, body, left)
        except Exception as error:  # noqa: BLE001 - it must not keep the event from other targets
            self._give_back()
            self.set_exception(error)
        else:
            self._exchange.add_done_callback(self._end)

    def cancel(self, msg: Any | None = None) -> bool:
        if not super().cancel(msg):
            return False
        if self._exchange is not None:
            self._exchange.cancel()
        return True

    def _end(self, exchange: asyncio.Future[Answer | Failure]) -> None:
        self._give_back()
        if exchange.cancelled():
            self.cancel()
        if self.done():
            return
        try:
            self.set_result(self._attempt(exchange.result()))
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            self.set_exception(error)

    def _attempt(self, result: Answer | Failure) -> Attempt:
        target = self._lane.target
        seconds = time.monotonic() - self._started
        attempt = judge(result, target, seconds, self._clock())
        self._metrics.of(target.name).attempt(attempt.reason, attempt.seconds)
        return attempt

    def _give_back(self) -> None:
        self._lane.places.give_back()
        self._lane.leave()
