"""Tools for the event loop: waits with a limit, batched writes, and a thread for other work."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

R = TypeVar("R")

#: Done once the caller has hung up.
Gone = asyncio.Future[None]


async def happens(event: asyncio.Event, within: float) -> bool:
    """Wait for an event for at most so many seconds; return whether it is set."""
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return event.is_set()


#: How early a timer may come, in seconds: uvloop's are in whole milliseconds.
TICK: Final = 0.001

#: With more than this many requests in hand, it pays to batch writes until the end of the turn.
COMPANY: Final = 4


class Batching:
    """Batches the writes of one loop: they leave in their order, one turn later at the latest."""

    def __init__(self) -> None:
        # Without a reference to its loop, which would then never be freed: see `_batchings`.
        self.waiting = deque[tuple[Callable[[Any], object], Any]]()

    def put(self, send: Callable[[Any], object], argument: Any) -> None:
        """Call `send(argument)` when this turn is over. Call `flush` before a write that must come
        after it and can't wait."""
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self.waiting.append((send, argument))

    def flush(self) -> None:
        """Send now."""
        while self.waiting:
            send, argument = self.waiting.popleft()
            try:
                send(argument)
            except Exception as error:  # noqa: BLE001 - it does not affect the others
                about = {"message": f"{send!r} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(about)


_batchings: WeakKeyDictionary[asyncio.AbstractEventLoop, Batching] = WeakKeyDictionary()


def batching_of(loop: asyncio.AbstractEventLoop) -> Batching:
    batching = _batchings.get(loop)
    if batching is None:
        batching = _batchings[loop] = Batching()
    return batching


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

    async def do(self, work: Callable[..., R], *arguments: Any, within: float | None = None) -> R:
        """Return the result of a call in the thread. Raises TimeoutError, and does not call, if its
        turn has not come within so many seconds."""
        async with asyncio.timeout(within):
            await self._lock.acquire()
        try:
            rest = self._rested_at - time.monotonic()
            if rest > _SHORTEST:
                await asyncio.sleep(rest)
            began = time.monotonic()
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._executor, work, *arguments)
            finally:
                now = time.monotonic()
                self._rested_at = now + min(now - began, _LONGEST)
        finally:
            self._lock.release()
