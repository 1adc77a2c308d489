"""A bounded number of places with a short, bounded line in front of them."""

from __future__ import annotations

import asyncio

from router.delivery.target.waiting import Waiters


class Places:
    """At most `limit` holders at a time; at most `line` more wait, first come first served.

    The invariant: while anybody waits, no place is free. A place that is given back goes straight
    to the first in line, so that nobody can slip in between.
    """

    def __init__(self, limit: int, line: int) -> None:
        self._limit = limit
        self._most_waiting = line
        self._taken = 0
        self._line = Waiters()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def free(self) -> int:
        return self._limit - self._taken

    def take_free(self) -> bool:
        """Take a place if one is free."""
        if self._taken >= self._limit:
            return False
        self._taken += 1
        return True

    async def take(self, timeout: float, gone: asyncio.Future[None] | None = None) -> bool:
        """Take a place, waiting up to `timeout` seconds. False: the line was full or too slow, or
        `gone` is done, for whom it was to be."""
        if self.take_free():
            return True
        if len(self._line) >= self._most_waiting or timeout <= 0:
            return False
        return await self._line.wait(self.give_back, timeout, gone)

    def give_back(self) -> None:
        if not self._line.admit():
            self._taken -= 1
