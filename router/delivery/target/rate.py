"""A target's rate: a token bucket, and those who wait for a token, first come first served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from router.delivery.target.waiting import Waiters
from router.net.gone import Gone
from router.routing.target import Rate

#: What a token may lack by rounding, so that a timer which is on time finds one.
_ROUNDING: Final = 1e-6


class Bucket:
    """Tokens: `burst` at first and at most, `per_second` more each second. Pure but for its clock,
    which is monotonic, in seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._at = clock()

    def tokens(self, within: float = 0.0) -> float:
        """How many can be taken now, and within so many seconds as they come."""
        now, rate = self._clock(), self._rate
        come = (now - self._at) * rate.per_second
        self._tokens, self._at = min(self._tokens + come, float(rate.burst)), now
        return self._tokens + within * rate.per_second

    def take(self) -> bool:
        if self.tokens() < 1.0 - _ROUNDING:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        self._tokens += 1.0

    def seconds_until(self, tokens: int) -> float:
        """How long until so many can have been taken, as they come."""
        return max(0.0, (tokens - self.tokens()) / self._rate.per_second)


class Pace:
    """Lets attempts begin at a rate, first come first served, with one timer for all who wait.

    The invariant: while anybody waits, a timer runs for the first of them, and nobody else gets a
    token.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._bucket = Bucket(rate, clock)
        self._waiters = Waiters()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def room(self, within: float) -> int:
        """How many more could begin within so many seconds."""
        return max(0, int(self._bucket.tokens(within)) - len(self._waiters))

    def take_free(self) -> bool:
        """Take a token if there is one and nobody waits for it."""
        return not self._waiters and self._bucket.take()

    def give_back(self) -> None:
        """A token that was taken is not used after all."""
        self._bucket.give_back()

    async def take(self, patience: float, most_waiting: int, gone: Gone | None = None) -> bool:
        """Wait for a token for up to `patience` seconds, where fewer than `most_waiting` wait.

        False: it would not come in time, which is known at once, or `gone` is done, for whom it was
        to be.
        """
        if self.take_free():
            return True
        waiting = len(self._waiters)
        if waiting >= most_waiting or self._bucket.seconds_until(waiting + 1) > patience:
            return False
        self._set_timer()
        return await self._waiters.wait(self._bucket.give_back, gone=gone)

    def _set_timer(self) -> None:
        if self._timer is None:
            wait = self._bucket.seconds_until(1)
            self._timer = asyncio.get_running_loop().call_later(wait, self._next)

    def _next(self) -> None:
        self._timer = None
        while self._waiters and self._bucket.take():
            if not self._waiters.admit():
                self._bucket.give_back()
        if self._waiters:
            self._set_timer()
