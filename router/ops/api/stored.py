"""The service's store, as people look into it: opened by the first who asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from router.model.errors import StartFailed
from router.ops.api.rejected import Rejected, nothing_there
from router.store.ops import Ops
from router.store.promises import StoreFailed
from router.telemetry.log import Log

#: How long one question may take, the wait for its turn included, in seconds.
ASKED_WITHIN = 10.0


class Stored:
    """One question after another: one that is broken off interrupts what is in hand."""

    def __init__(self, open_: Callable[[], Awaitable[Ops]] | None, log: Log) -> None:
        """`open_` raises StartFailed; None where nothing is remembered."""
        self._open = open_
        self._log = log
        self._ops: Ops | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Ops]:
        """The store, for one question. Raises Rejected where it has no answer in time."""
        if self._open is None:
            raise nothing_there("store: nothing is remembered")
        try:
            async with asyncio.timeout(ASKED_WITHIN), self._turn:
                if self._ops is None:
                    self._ops = await self._open()
                yield self._ops
        except TimeoutError:
            why = f"the store had no answer within {ASKED_WITHIN:.0f} s: ask for less, or again"
            raise Rejected(503, why) from None
        except StoreFailed as error:
            raise Rejected(503, f"the store failed: {error.told}") from None
        except StartFailed as error:
            self._log.warning("store_awaited", error=str(error))
            raise Rejected(
                503, "the store can't be opened now: the router's log says why"
            ) from None

    async def close(self) -> None:
        if self._ops is not None:
            await self._ops.close()
