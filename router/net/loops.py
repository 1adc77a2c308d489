"""Tools for the event loop: callbacks, hang-ups, deadlines, and writes that are sent together."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary


def call_back(told: Callable[[Any], object], what: Any) -> None:
    """Call `told(what)`; what that raises is told as that of any callback of the loop."""
    try:
        told(what)
    except Exception as error:  # noqa: BLE001 - whatever it is
        tell_fault(told, error)


def tell_fault(told: Callable[[Any], object], error: Exception) -> None:
    """As that of any callback of the loop; for whom one call more for each is too many."""
    about = {"message": f"{told!r} failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(about)


#: Done once the caller has hung up.
Gone = asyncio.Future[None]

#: What a timer may be early by, in seconds: uvloop's are in whole milliseconds.
TICK: Final = 0.001


def _nobody() -> None:
    """Whom an ended timer rings."""


async def happens(event: asyncio.Event, within: float) -> bool:
    """Wait for it, at most for so many seconds; whether it is set."""
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return event.is_set()


class Timer:
    """Calls `ring` once `due` has come, by `clock`, in seconds: one of the loop's serves all."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ring: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._ring = ring
        self._clock = clock
        #: When to ring; infinite while there is no deadline. It may be put off at no cost.
        self.due = math.inf
        #: The loop's own timer: it may come too early, and never too late.
        self._handle: asyncio.TimerHandle | None = None
        self._comes_at = math.inf

    def set(self, due: float) -> None:
        self.due = due
        if due < self._comes_at:
            if self._handle is not None:
                self._handle.cancel()
            self._comes_at = due
            self._handle = self._loop.call_later(max(due - self._clock(), 0.0), self._look)

    def end(self) -> None:
        """Ring no more, and let go of who would be rung for: it may have this timer."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self.due, self._comes_at = None, math.inf, math.inf
        self._ring = _nobody

    def _look(self) -> None:
        due = self.due
        self._handle, self.due, self._comes_at = None, math.inf, math.inf
        if due <= self._clock() + TICK:
            self._ring()
        elif due < math.inf:
            self.set(due)


#: With more than so many in hand it pays to wait for the end of the turn.
COMPANY: Final = 4


class Batching:
    """One loop's. What is put is sent in the order in which it came, a turn of the loop later at
    the latest."""

    def __init__(self) -> None:
        # It does not know its loop, which would then never be forgotten: see `_batchings`.
        self._waiting = deque[tuple[Callable[[Any], object], Any]]()

    def put(self, send: Callable[[Any], object], what: Any) -> None:
        """Have `send(what)` called when this turn is over.

        What must not be sent before it, and can't wait, is sent after a `flush`.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((send, what))

    def flush(self) -> None:
        """Send what waits, now. One that raises costs the others nothing."""
        while self._waiting:
            send, what = self._waiting.popleft()
            try:
                send(what)
            except Exception as error:  # noqa: BLE001 - whatever it is
                tell_fault(send, error)


_batchings: WeakKeyDictionary[asyncio.AbstractEventLoop, Batching] = WeakKeyDictionary()


def batching_of(loop: asyncio.AbstractEventLoop) -> Batching:
    found = _batchings.get(loop)
    if found is None:
        found = _batchings[loop] = Batching()
    return found
