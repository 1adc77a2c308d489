"""A breaker: a target that fails gets no more attempts for a while, then a single one. Pure.

Time is injected. What an attempt's end means is said by who made it: a failure, a success, or
neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from router.routing.target import BreakerPolicy

#: Into how many parts the window is cut: it forgets what is old one part at a time.
SLICES: Final = 10


class BreakerState(StrEnum):
    #: Every attempt may begin.
    CLOSED = "closed"
    #: None may.
    OPEN = "open"
    #: One may, the probe, and it decides.
    HALF_OPEN = "half_open"


class Breaker:
    """Says whether an attempt may begin, and is told how it ended.

    The invariant: what began before the last change of state has no say after it. Each change
    starts another turn, and an end counts only in the turn in which its attempt began.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        clock: Callable[[], float],
        changed: Callable[[BreakerState], None],
    ) -> None:
        """`clock` is monotonic, in seconds."""
        self.state = BreakerState.CLOSED
        self._policy = policy
        self._clock = clock
        #: Hears of every new state.
        self.changed = changed
        self._window = _Window(policy.within)
        self._turn = 0
        self._probe_at = 0.0
        self._probing = False

    @property
    def refuses(self) -> bool:
        """No attempt may begin now."""
        if self.state is BreakerState.CLOSED:
            return False
        return self._probing or self._clock() < self._probe_at

    def begin(self) -> int | None:
        """Begin an attempt; the turn that it has to `end` with, or None where it may not."""
        if self.refuses:
            return None
        if self.state is not BreakerState.CLOSED:
            self._probing = True
            self._turn += 1
            self._change(BreakerState.HALF_OPEN)
        return self._turn

    def end(self, turn: int, failed: bool | None) -> None:
        """An attempt has ended; None: it tells nothing of the target, it was cancelled, say."""
        if turn != self._turn:
            return
        if self.state is BreakerState.HALF_OPEN:
            self._end_probe(failed)
        elif failed is not None and self._too_many(failed):
            self._open()

    def _end_probe(self, failed: bool | None) -> None:
        self._probing = False
        if failed:
            self._open()
        elif failed is False:
            self._turn += 1
            self._window = _Window(self._policy.within)
            self._change(BreakerState.CLOSED)

    def _too_many(self, failed: bool) -> bool:
        ended, failures = self._window.add(self._clock(), failed)
        policy = self._policy
        return failed and ended >= policy.of_at_least and failures >= policy.failures * ended

    def _open(self) -> None:
        self._turn += 1
        self._probe_at = self._clock() + self._policy.pause
        self._change(BreakerState.OPEN)

    def _change(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self.changed(state)


class _Window:
    """How many attempts have ended lately, and how many of them failed."""

    def __init__(self, within: float) -> None:
        self._width = within / SLICES
        #: Each with its number, what ended in it, and what of that failed.
        self._slices: deque[list[int]] = deque()
        self._ended = self._failed = 0

    def add(self, now: float, failed: bool) -> tuple[int, int]:
        """Count one more end; what has ended in all, and what of that failed."""
        number = int(now / self._width)
        while self._slices and self._slices[0][0] <= number - SLICES:
            _, ended, failures = self._slices.popleft()
            self._ended -= ended
            self._failed -= failures
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed
        self._ended += 1
        self._failed += failed
        return self._ended, self._failed
