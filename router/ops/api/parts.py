"""Parts that endpoints share: the store, searches, previews, streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, TypeVar

from router.config.holders import Holders, TokenHolder
from router.model.errors import StartFailed
from router.net.reader import RestingReader
from router.ops.api.view import View, of_router
from router.ops.guard import OpsTokens
from router.ops.insight import Insight
from router.ops.problems import Rejected
from router.ops.searching import Note, SearchAnswer, SearchQuestion, search_in
from router.ops.streams import Streams
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


#: The number of searches at a time, and the longest one in seconds, its wait included.
SEARCHES, SEARCH_TIMEOUT = 2, 10.0


class Search:
    """Searches, each in a process of its own."""

    def __init__(self, command: Sequence[str], log: Log) -> None:
        """`command` reads the question from stdin and writes the answer to stdout, as JSON."""
        self._command = command
        self._log = log
        self._slots = asyncio.Semaphore(SEARCHES)
        #: One search of each team at a time, so that others get their turn in between.
        self._teams: dict[str, asyncio.Lock] = {}

    async def run(
        self, question: SearchQuestion, team: str = "", timeout: float | None = None
    ) -> SearchAnswer:
        """Run a search of a team, `""` for none. Raises Rejected if it fails or takes too long."""
        timeout = timeout or SEARCH_TIMEOUT
        turn = self._teams.setdefault(team, asyncio.Lock()) if team else contextlib.nullcontext()
        try:
            async with asyncio.timeout(timeout), turn, self._slots:
                output = await self._output(json.dumps(question).encode())
        except TimeoutError:
            is_whole = "inventory" in question or "again" in question
            code = "archive_slow" if is_whole else "search_slow"
            raise Rejected(code, seconds=round(timeout)) from None
        except OSError as error:
            raise Rejected("search_unstarted", why=error.strerror) from None
        if not output:
            raise Rejected("search_failed")
        answer: SearchAnswer = json.loads(output)
        return answer

    async def _output(self, question: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        try:
            output, errors = await process.communicate(question)
            if process.returncode == 0:
                return output
            why = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            self._log.warning("search_failed", why=why)
            return b""
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class SearchHere(Search):
    """Searches in this process, with no limit: for a command that does nothing else."""

    def __init__(
        self, archive: Path | None, stored: Stored | None, progress: Note, note: Note
    ) -> None:
        """`progress` is called with the progress of a search, and `note` with what can't be
        read."""
        self._archive = archive
        self._stored = stored
        self._reports = progress, note

    async def run(
        self, question: SearchQuestion, team: str = "", timeout: float | None = None
    ) -> SearchAnswer:
        if self._stored is None:
            return await search_in(self._archive, None, question, *self._reports)
        async with self._stored.question() as admin:
            return await search_in(self._archive, admin, question, *self._reports)


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

    def get(self, token: str, kind: type[P]) -> P:
        """Return a preview of that kind. Raises Rejected."""
        preview = next((kept[token] for kept in self._kept.values() if token in kept), None)
        if not isinstance(preview, kind):
            raise Rejected("preview_gone")
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
        self._tokens = tokens
        self._streams = None if insight is None else Streams(insight)
        self.stored = stored
        self.search = search
        self.is_shared = is_shared
        self.previews = Previews()
        #: Parses bodies.
        self.reader = RestingReader()

    @property
    def is_running(self) -> bool:
        return self._insight is not None

    # These raise Rejected if no router runs.

    @property
    def insight(self) -> Insight:
        return of_router(self._insight)

    @property
    def tokens(self) -> OpsTokens:
        return of_router(self._tokens)

    @property
    def streams(self) -> Streams:
        return of_router(self._streams)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.stored.close()

    def take(self, holders: Holders) -> None:
        """Replace the tokens. Every stream ends; readers with a valid token connect again."""
        self.tokens.take(holders)
        self.streams.end()

    def view(self, holder: TokenHolder) -> View:
        return View(holder, self._insight)
