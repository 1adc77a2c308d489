"""What the API's endpoints draw upon: the service's processes, its store, its archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.config import Holder, Holders
from router.net import Reader
from router.ops.answers import Processes, Topic
from router.ops.api.preview import Previews
from router.ops.api.rejected import Rejected
from router.ops.api.search import Search
from router.ops.api.stored import Stored
from router.ops.api.view import View
from router.ops.status import Reports
from router.ops.streams import Streams
from router.ops.table import TableFacts
from router.ops.tokens import OpsTokens


class ApiParts:
    """One for the whole service, in the process that owns the ops port."""

    def __init__(
        self,
        processes: Processes,
        tokens: OpsTokens,
        stored: Stored,
        search: Search,
        *,
        is_shared: bool,
    ) -> None:
        """`is_shared`: other routers have the same store."""
        self.processes = processes
        self.tokens = tokens
        self.stored = stored
        self.search = search
        self.is_shared = is_shared
        self.streams = Streams(processes)
        self.previews = Previews()
        #: Reads large bodies.
        self.reader = Reader()
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
        """Raises Rejected where no process answers."""
        reports = await self.processes.gather()
        return View(holder, reports, await self._table_of(reports))

    async def _table_of(self, reports: Reports) -> TableFacts:
        """It is asked for anew only once another one is in force: it may be long."""
        known = [report["status"]["configuration"] for report in reports.living]
        newest = max(known, key=lambda each: each["since"], default=None)
        if newest is None:
            raise Rejected(503, "no process answers in time")
        if self._table is None or self._table["hash"] != newest["hash"]:
            table: TableFacts | None = await self.processes.ask_one(Topic.TABLE)
            if table is None:
                raise Rejected(503, "no process answers in time")
            self._table = table
        return self._table
