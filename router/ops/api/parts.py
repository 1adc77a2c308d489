"""Parts that endpoints share: the running router, the store, searches, previews."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from router.model.errors import StartFailed
from router.net.loops import RestingReader
from router.ops.guard import OpsTokens
from router.ops.insight import Insight
from router.ops.problems import Rejected
from router.ops.searching import Search
from router.store.admin import Admin
from router.store.protocol import StoreFailed
from router.telemetry.log import Log

#: The longest question to a running router's store, in seconds.
STORE_TIMEOUT = 10.0


class Stored:
    """The store, for one question at a time: cancelling one interrupts the store's current work."""

    def __init__(
        self,
        open_: Callable[[], Awaitable[Admin]] | None,
        log: Log | None,
        timeout: float | None = STORE_TIMEOUT,
    ) -> None:
        """`open_` raises StartFailed, which is logged; it is None if there is no store. A question
        may take `timeout` seconds, its wait for its turn included."""
        self._open = open_
        self._timeout = timeout
        self._log = log
        self._admin: Admin | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def question(self) -> AsyncIterator[Admin]:
        """Return the store for one question. Raises Rejected if it does not answer in time."""
        if self._open is None:
            raise Rejected("no_store")
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                if self._admin is None:
                    self._admin = await self._open()
                yield self._admin
        except TimeoutError:
            raise Rejected("store_slow", seconds=round(self._timeout or 0)) from None
        except StoreFailed as error:
            raise Rejected("store_failed", why=error.text) from None
        except StartFailed as error:
            if self._log is not None:
                self._log.warning("store_awaited", error=str(error))
            raise Rejected("store_closed") from None

    async def close(self) -> None:
        if self._admin is not None:
            await self._admin.close()


#: The number of previews of one holder that are kept; the oldest goes.
MAX_PREVIEWS = 32

P = TypeVar("P")


class Previews:
    """Previews by their tokens, for as long as the process runs."""

    def __init__(self) -> None:
        #: By the holder who made them, and by token.
        self._kept: dict[str, dict[str, Any]] = {}

    def put(self, who: str, preview: object) -> str:
        """Keep a preview and return its token, which cannot be guessed."""
        token = secrets.token_urlsafe()
        kept = self._kept.setdefault(who, {})
        kept[token] = preview
        if len(kept) > MAX_PREVIEWS:
            del kept[next(iter(kept))]
        return token

    def get(self, who: str, token: str, kind: type[P]) -> P:
        """Return a preview of that kind, which this holder made. Raises Rejected."""
        maker = next((name for name, kept in self._kept.items() if token in kept), None)
        preview = None if maker is None else self._kept[maker][token]
        if not isinstance(preview, kind):
            raise Rejected("preview_gone")
        if maker != who:
            raise Rejected("other_preview")
        return preview


class ApiParts:
    """One for the whole API."""

    def __init__(
        self,
        insight: Insight | None,
        tokens: OpsTokens | None,
        stored: Stored,
        search: Search,
        *,
        is_shared: bool,
    ) -> None:
        """`insight` and `tokens` are None if no router runs; `is_shared`: other routers have the
        same store."""
        self._insight = insight
        self.tokens = tokens
        self.stored = stored
        self.search = search
        self.is_shared = is_shared
        self.previews = Previews()
        #: Parses bodies.
        self.reader = RestingReader()

    @property
    def is_running(self) -> bool:
        return self._insight is not None

    @property
    def insight(self) -> Insight:
        """The running router. Raises Rejected if none runs."""
        if self._insight is None:
            raise Rejected("no_router")
        return self._insight

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.stored.close()
