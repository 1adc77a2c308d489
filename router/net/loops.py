"""Tools for the event loop: batched writes, and waits with a limit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

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
