"""Searches, each in a process of its own, few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from subprocess import PIPE

from router.ops.api.rejected import Rejected
from router.ops.searching import Found, SearchedFor
from router.telemetry.log import Log

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
