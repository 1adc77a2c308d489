"""Deadlines: one that is set anew many times, and rarely comes; and a wait with an end to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

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
