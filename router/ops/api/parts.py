"""Parts that endpoints share: the store, searches, previews."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from subprocess import PIPE

from router.config.holders import Holder, Holders
from router.model.errors import StartFailed
from router.net.reader import RestingReader
from router.ops.api.endpoint import Rejected, nothing_there
from router.ops.api.view import View
from router.ops.guard import OpsTokens
from router.ops.insight import Insight, TableFacts
from router.ops.searching import Found, SearchedFor
from router.ops.streams import Streams
from router.store.ops import Action, Ops, Selection
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


#: How many are kept of one holder; the oldest goes.
MOST_PREVIEWS = 32


@dataclass(frozen=True, slots=True)
class Previewed:
    """Which deliveries, and what was seen of them."""

    #: As it will be recorded; it is of the moment of the preview, on the store's clock.
    action: Action
    selection: Selection
    number: int


class Previews:
    """They live as long as the process."""

    def __init__(self) -> None:
        #: By who made them, and by token.
        self._kept: dict[str, dict[str, Previewed]] = {}

    def put(self, previewed: Previewed) -> str:
        """The token, which nobody guesses."""
        token = secrets.token_urlsafe()
        kept = self._kept.setdefault(previewed.action.who, {})
        kept[token] = previewed
        if len(kept) > MOST_PREVIEWS:
            del kept[next(iter(kept))]
        return token

    def get(self, token: str) -> Previewed | None:
        return next((kept[token] for kept in self._kept.values() if token in kept), None)


#: How many run at a time, and for how many seconds each may, its wait for a place included.
SEARCHES, SEARCH_WITHIN = 2, 10.0


class Search:
    """Runs searches."""

    def __init__(self, command: Sequence[str], log: Log) -> None:
        """`command` reads what is asked on stdin and says on stdout what was found."""
        self._command = command
        self._log = log
        self._places = asyncio.Semaphore(SEARCHES)
        #: One search of each team at a time, however many it asks for: others come in between.
        self._teams: dict[str, asyncio.Lock] = {}

    async def run(self, asked: SearchedFor, team: str = "") -> Found:
        """Raises Rejected where nothing came of it in time; `team` is whose it is, if any's."""
        turn = self._teams.setdefault(team, asyncio.Lock()) if team else contextlib.nullcontext()
        try:
            async with asyncio.timeout(SEARCH_WITHIN), turn, self._places:
                said = await self._said(json.dumps(asked).encode())
        except TimeoutError:
            why = f"nothing was found within {SEARCH_WITHIN:.0f} s: say since, or which target"
            if asked.get("inventory"):
                why = f"the archive could not be counted within {SEARCH_WITHIN:.0f} s"
            raise Rejected(503, why) from None
        except OSError as error:
            raise Rejected(503, f"no search can be started: {error.strerror}") from None
        if not said:
            raise Rejected(503, "the search has failed: the archive or the store can't be read")
        found: Found = json.loads(said)
        return found

    async def _said(self, asked: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        try:
            said, trouble = await process.communicate(asked)
            if process.returncode == 0:
                return said
            why = trouble.decode("utf-8", "replace").strip().rpartition("\n")[2]
            self._log.warning("search_failed", why=why)
            return b""
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


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
        #: Reads large bodies.
        self.reader = RestingReader()
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
