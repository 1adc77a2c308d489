"""What is sent at the end of the loop's turn, all in one go.

The first write wakes its receiver, on another core say; those right after it find it awake, and all
of the system's code warm. Where many requests are in hand that is a fifth of an event's CPU: see
`Outbox.put` for where there are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary


class Outbox:
    """One loop's. What is put is sent in the order in which it came, a turn of the loop later at
    the latest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def put(self, send: Callable[..., object], *args: Any) -> None:
        """Have `send(*args)` called when this turn is over.

        A turn takes some tens of microseconds: whoever has nothing else in hand should rather not
        wait for its end, and nobody may wait who has to be before what waits: see `flush`.
        """
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((send, args))

    def flush(self) -> None:
        """Send what waits, now. One that raises costs the others nothing."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for send, args in waiting:
                try:
                    send(*args)
                except Exception as error:  # noqa: BLE001 - told as that of any callback
                    told = {"message": "what was put in the outbox failed", "exception": error}
                    self._loop.call_exception_handler(told)


_outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = WeakKeyDictionary()


def outbox_of(loop: asyncio.AbstractEventLoop) -> Outbox:
    found = _outboxes.get(loop)
    if found is None:
        found = _outboxes[loop] = Outbox(loop)
    return found
