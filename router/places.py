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
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self, timeout: float, gone: asyncio.Future[None] | None = None) -> bool:
        """Take a place, waiting up to `timeout` seconds. False: the line was full or too slow, or
        `gone` is done, for whom it was to be."""
        if self._taken < self._limit:
            self._taken += 1
            return True
        if len(self._waiting) >= self._line or timeout <= 0:
            return False
        turn = asyncio.get_running_loop().create_future()
        if gone is None:
            return await self._wait(turn, timeout)

        def leave(_: object) -> None:
            self._leave(turn)

        gone.add_done_callback(leave)
        try:
            return await self._wait(turn, timeout)
        finally:
            gone.remove_done_callback(leave)

    async def _wait(self, turn: asyncio.Future[bool], timeout: float) -> bool:
        self._waiting.append(turn)
        timer = asyncio.get_running_loop().call_later(timeout, self._leave, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            # The place may have been handed over in that very moment.
            if turn.done() and not turn.cancelled() and turn.result():
                self.give_back()
            self._leave(turn)
            raise
        finally:
            timer.cancel()

    def _leave(self, turn: asyncio.Future[bool]) -> None:
        """Out of the line without a place, unless that is decided already."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        if not turn.done():
            turn.set_result(False)

    def give_back(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._taken -= 1
