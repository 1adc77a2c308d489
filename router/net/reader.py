"""A thread for work that would block the loop. Not compiled: it has an asynchronous generator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

A = TypeVar("A")
R = TypeVar("R")

#: The longest rest and the shortest, in seconds.
_LONGEST, _SHORTEST = 0.05, 0.001


class RestingReader:
    """One thread for work that would block the loop. With each further thread the loop would wait
    5 ms longer for the interpreter, and none would be faster.

    After each piece of work it rests as long as that took. A loop that reads from many sockets
    gives the interpreter away with each; without a rest it would get it back, each time, only when
    the parser is done.
    """

    def __init__(self) -> None:
        self._executor: Final = ThreadPoolExecutor(1, "reader")
        self._lock = asyncio.Lock()
        self._rested_at = 0.0

    async def do(self, work: Callable[[A], R], argument: A) -> R:
        """Return `work(argument)`, called in the thread."""
        async with self.turn():
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, argument)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Keep other work waiting: for work that is done in another thread."""
        async with self._lock:
            rest = self._rested_at - time.monotonic()
            if rest > _SHORTEST:
                await asyncio.sleep(rest)
            began = time.monotonic()
            try:
                yield
            finally:
                now = time.monotonic()
                self._rested_at = now + min(now - began, _LONGEST)
