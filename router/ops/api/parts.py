"""What the API's endpoints draw upon: the running router, its store, its archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.config.holders import Holder, Holders
from router.ops.api.preview import Previews
from router.ops.api.search import Search
from router.ops.api.stored import Stored
from router.ops.api.view import View
from router.ops.insight import Insight
from router.ops.streams import Streams
from router.ops.table import TableFacts
from router.ops.tokens import OpsTokens


class ApiParts:
    """One for the whole API."""

    def __init__(
        self,
        insight: Insight,
        tokens: OpsTokens,
        stored: Stored,
        search: Search,
        *,
        is_shared: bool,
    ) -> None:
        """`is_shared`: other routers have the same store."""
        self.insight = insight
        self.tokens = tokens
        self.stored = stored
        self.search = search
        self.is_shared = is_shared
        self.streams = Streams(insight)
        self.previews = Previews()
        #: The configuration that was last asked for.
        self._table: TableFacts | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.stored.close()

    def take(self, holders: Holders) -> None:
        """From now on these tokens are good. Every stream ends: who may still have it comes again,
        by a token that is good."""
        self.tokens.take(holders)
        self.streams.end()

    async def view(self, holder: Holder) -> View:
        table = await self._table_of()
        return View(holder, self.insight.report(), table)

    async def _table_of(self) -> TableFacts:
        """Made anew only once another configuration is in force: it may be long."""
        known = self._table
        if known is not None and known["hash"] == self.insight.configuration:
            return known
        made = await asyncio.to_thread(self.insight.table)
        self._table = made
        return made
