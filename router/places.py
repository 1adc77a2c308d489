"""A bounded number of places with a short, bounded line in front of them."""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """At most `limit` holders at a time; at most `line` more wait, first come first served.

    The invariant: while anybody waits, no place is free. A place that is given back goes straight
    to the first in line, so that nobody can slip in between.
    """

    def __init__(self, limit: int, line: int) -> None:
        self._limit = limit
        self._line = line
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self, timeout: float) -> bool:
        """Take a place, waiting up to `timeout` seconds. False: the line was full or too slow."""
        if self._taken < self._limit:
            self._taken += 1
            return True
        if len(self._waiting) >= self._line or timeout <= 0:
            return False
        return await self._wait(timeout)

    async def _wait(self, timeout: float) -> bool:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except TimeoutError:
            return self._given(turn)
        except asyncio.CancelledError:
            if self._given(turn):
                self.give_back()
            raise
        return True

    def _given(self, turn: asyncio.Future[None]) -> bool:
        """Whether the place was handed over in the very moment the wait ended; else leave."""
        if turn.done() and not turn.cancelled():
            return True
        if turn in self._waiting:
            self._waiting.remove(turn)
        return False

    def give_back(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1
