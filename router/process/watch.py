"""Files besides routes.yaml that are read again while the router runs: tokens, certificates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from router.config.reload import LOOK_EVERY
from router.model.errors import RouterError
from router.net.timer import happens
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of

T = TypeVar("T")

#: Seconds after which what can't be used is complained of again.
REMIND_EVERY = 300.0


class Watch(Generic[T]):
    """A Service: what files say is taken once it has changed and can be used; until then the last
    that could stays in force. Two looks in a row have to agree: a file that is being written is
    often valid up to where its writer has come, and a certificate is written beside its key."""

    def __init__(
        self,
        option: str,
        known: T,
        read: Callable[[], T],
        take: Callable[[T], None],
        log: Log,
        every: float = LOOK_EVERY,
    ) -> None:
        """`known` is in force. `read` is called in a thread, and raises RouterError for what can't
        be used; two results that are equal say the same."""
        self._option = option
        self._read = read
        self._take = take
        self._log = log
        self._every = every
        self._stopped = asyncio.Event()
        #: What was last taken, or why it was refused.
        self._seen: T | str = known
        self._complained = float("-inf")

    async def serve(self) -> None:
        before = self._seen
        while not await happens(self._stopped, self._every):
            found = await asyncio.to_thread(self._look)
            if found == before:
                self._heed(found)
            before = found

    async def up(self) -> None:
        """At once."""

    def stop(self) -> None:
        self._stopped.set()

    def hurry(self) -> None:
        self.stop()

    def _look(self) -> T | str:
        """What they say, or in words why that can't be used."""
        try:
            return self._read()
        except RouterError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a service that ends stops all others
            return f"a fault of the router: {place_of(error)}"

    def _heed(self, found: T | str) -> None:
        is_new = found != self._seen
        self._seen = found
        if isinstance(found, str):
            if is_new or time.monotonic() - self._complained > REMIND_EVERY:
                self._complained = time.monotonic()
                self._log.error(
                    "reread", what=self._option, result="refused", problems=found.split("\n")
                )
        elif is_new:
            self._take(found)
            self._log.info("reread", what=self._option, result="taken")
