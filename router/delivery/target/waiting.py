"""Who waits for something that there is not enough of, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from router.net.gone import Gone


class Waiters:
    """Waiters in the order in which they came. What they wait for is its owner's: `admit` hands one
    of it to the first."""

    def __init__(self) -> None:
        self._turns: deque[asyncio.Future[bool]] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    async def wait(
        self,
        give_back: Callable[[], None],
        timeout: float | None = None,
        gone: Gone | None = None,
    ) -> bool:
        """Wait to be admitted. False: not within `timeout` seconds, or `gone` is done, for whom it
        was to be. What was handed over in the very moment of a cancellation is given back."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._turns.append(turn)

        def leave(_: object = None) -> None:
            self._leave(turn)

        timer = None if timeout is None else loop.call_later(timeout, leave)
        if gone is not None:
            gone.add_done_callback(leave)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                give_back()
            self._leave(turn)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if gone is not None:
                gone.remove_done_callback(leave)

    def admit(self) -> bool:
        """Let the first one go; False where nobody waits."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(True)
                return True
        return False

    def _leave(self, turn: asyncio.Future[bool]) -> None:
        """Leave with nothing, unless that is decided already."""
        if turn in self._turns:
            self._turns.remove(turn)
        if not turn.done():
            turn.set_result(False)


class Places:
    """At most `limit` holders at a time; at most `most_waiting` more wait, first come first served.

    The invariant: while anybody waits, no place is free. A place that is given back goes straight
    to the first who waits, so that nobody can slip in between.
    """

    def __init__(self, limit: int, most_waiting: int) -> None:
        self._limit = limit
        self._most_waiting = most_waiting
        self._taken = 0
        self._waiters = Waiters()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def free(self) -> int:
        return max(0, self._limit - self._taken)

    def resize(self, limit: int, most_waiting: int) -> None:
        """Have so many from now on. Who holds a place keeps it, also where there are fewer now."""
        self._limit, self._most_waiting = limit, most_waiting
        while self._taken < limit and self._waiters.admit():
            self._taken += 1

    def take_free(self) -> bool:
        """Take a place if one is free."""
        if self._taken >= self._limit:
            return False
        self._taken += 1
        return True

    async def take(self, timeout: float, gone: Gone | None = None) -> bool:
        """Take a place, waiting up to `timeout` seconds. False: too many waited, or it took
        too long, or `gone` is done, for whom it was to be."""
        if self.take_free():
            return True
        if len(self._waiters) >= self._most_waiting or timeout <= 0:
            return False
        return await self._waiters.wait(self.give_back, timeout, gone)

    def give_back(self) -> None:
        if self._taken > self._limit or not self._waiters.admit():
            self._taken -= 1
