"""Parts that endpoints share: the store, searches, previews."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Generic, TypeVar

from router.config.holders import Holders, TokenHolder
from router.model.errors import StartFailed
from router.net.loops import RestingReader
from router.ops.api.endpoint import Rejected, nothing_there
from router.ops.api.view import View, required
from router.ops.guard import OpsTokens
from router.ops.insight import Insight
from router.ops.searching import AgainFor, Found, SearchedFor, Tell, search_in
from router.ops.streams import Streams
from router.store.admin import Action, Admin, Resend, Selection
from router.store.protocol import StoreFailed
from router.telemetry.log import Log

#: How long one question to a running router's store may take, in seconds.
ASKED_WITHIN = 10.0


class Stored:
    """One question after another: one that is broken off interrupts what is in hand."""

    def __init__(
        self,
        open_: Callable[[], Awaitable[Admin]] | None,
        log: Log | None,
        within: float | None = ASKED_WITHIN,
    ) -> None:
        """`open_` raises StartFailed, which goes to the log; None where nothing is remembered. A
        question may take `within` seconds, its wait for its turn included."""
        self._open = open_
        self._within = within
        self._log = log
        self._ops: Admin | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Admin]:
        """The store, for one question. Raises Rejected where it has no answer in time."""
        if self._open is None:
            raise nothing_there("store: nothing is remembered")
        try:
            async with asyncio.timeout(self._within), self._turn:
                if self._ops is None:
                    self._ops = await self._open()
                yield self._ops
        except TimeoutError:
            why = f"the store had no answer within {self._within:.0f} s: ask for less, or again"
            raise Rejected(503, why) from None
        except StoreFailed as error:
            raise Rejected(503, f"the store failed: {error.told}") from None
        except StartFailed as error:
            if self._log is not None:
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


@dataclass(slots=True)
class Replaying:
    """A replay of the archive that is under way. Not frozen: it goes on."""

    action: Action
    #: Which events are left.
    again: AgainFor
    #: Who goes on with it, which another may have begun.
    who: str
    #: Those that have been read and are queued next.
    pending: list[Resend]
    has_more: bool = True
    #: One step at a time.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


P = TypeVar("P", Previewed, Replaying)


class Previews(Generic[P]):
    """They live as long as the process."""

    def __init__(self) -> None:
        #: By who made them, and by token.
        self._kept: dict[str, dict[str, P]] = {}

    def put(self, previewed: P) -> str:
        """The token, which nobody guesses."""
        token = secrets.token_urlsafe()
        kept = self._kept.setdefault(previewed.action.who, {})
        kept[token] = previewed
        if len(kept) > MOST_PREVIEWS:
            del kept[next(iter(kept))]
        return token

    def get(self, token: str) -> P | None:
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

    async def run(self, asked: SearchedFor, team: str = "", within: float | None = None) -> Found:
        """Raises Rejected if nothing came of it in time; `team` is whose it is, if any's."""
        within = within or SEARCH_WITHIN
        turn = self._teams.setdefault(team, asyncio.Lock()) if team else contextlib.nullcontext()
        try:
            async with asyncio.timeout(within), turn, self._places:
                said = await self._said(json.dumps(asked).encode())
        except TimeoutError:
            why = f"nothing was found within {within:.0f} s: say since, or which target"
            if asked.get("inventory") or "again" in asked:
                why = f"the archive could not be looked through within {within:.0f} s"
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


class SearchHere(Search):
    """Searches in this process, with no limit: for a command that has nothing else to do."""

    def __init__(
        self, archive: Path | None, stored: Stored | None, progress: Tell, note: Tell
    ) -> None:
        """`progress` is told how far a search is, and `note` what could not be read."""
        self._archive = archive
        self._stored = stored
        self._tell = progress, note

    async def run(self, asked: SearchedFor, team: str = "", within: float | None = None) -> Found:
        if self._stored is None:
            return await search_in(self._archive, None, asked, *self._tell)
        async with self._stored.asked() as ops:
            return await search_in(self._archive, ops, asked, *self._tell)


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
        """`insight` is None if no router runs, and `tokens` with it; `is_shared`: other routers
        have the same store."""
        self._insight = insight
        self._tokens = tokens
        self.stored = stored
        self.search = search
        self.is_shared = is_shared
        self._streams = None if insight is None else Streams(insight)
        self.previews = Previews[Previewed]()
        self.replays = Previews[Replaying]()
        #: Reads large bodies.
        self.reader = RestingReader()

    @property
    def is_running(self) -> bool:
        return self._insight is not None

    # These raise Rejected if no router runs.

    @property
    def insight(self) -> Insight:
        return required(self._insight)

    @property
    def tokens(self) -> OpsTokens:
        return required(self._tokens)

    @property
    def streams(self) -> Streams:
        return required(self._streams)

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

    def view(self, holder: TokenHolder) -> View:
        return View(holder, self._insight)
