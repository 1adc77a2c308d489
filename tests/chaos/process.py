"""Routers as processes: started, killed, and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from time import time
from urllib.parse import urlsplit

from tests.chaos.history import Struck
from tests.chaos.plan import Blow
from tests.support.command import ROOT, environment
from tests.support.rows import Store, option

#: How long a router may take to start or to stop, in seconds.
PATIENCE = 30.0


#: The tree of the version before, for a rolling upgrade.
BEFORE = os.environ.get("CHAOS_BEFORE", "")


class Stuck(Exception):
    """A router does not start, or does not end."""


class Router:
    """One router at a time, on one store, with one log for all its lives."""

    def __init__(
        self,
        folder: Path,
        node: int = 0,
        store: Store | None = None,
        engine: str = "native",
    ) -> None:
        self.node = node
        self.store = store or folder / "store.db"
        self.routes = folder / "routes.yaml"
        self.log = folder / f"router-{node}.log"
        self.log.touch()
        self.errors = folder / f"router-{node}.err"
        self._engine = engine
        self._process: asyncio.subprocess.Process | None = None
        self._url: str | None = None

    @property
    def url(self) -> str | None:
        """The URL of its callback port; None while it is down."""
        return self._url if self.alive else None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Return once it serves. Raises Stuck with its last output otherwise."""
        if self._process is not None:
            await self._process.wait()
        begin = self.log.stat().st_size
        with self.log.open("ab") as log, self.errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), stdout=log, stderr=errors, cwd=self._tree, env=environment()
            )
        deadline = time() + PATIENCE
        while (url := self._announced(begin)) is None:
            if self._process.returncode is not None or time() > deadline:
                output = self.errors.read_text()[-1000:] + self.log.read_text()[begin:][-3000:]
                ended = self._process.returncode
                raise Stuck(f"a router did not start, exit code {ended}: {output}")
            await asyncio.sleep(0.01)
        self._url = url

    async def answers(self) -> bool:
        if self.url is None:
            return False
        place = urlsplit(self.url)
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(b"GET /livez HTTP/1.1\r\nhost: router\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer.startswith(b"HTTP/1.1 200")
        return False

    async def end(self) -> None:
        if self.alive:
            await self.strike(Blow.TERM)
        if self._process is not None:
            await self._process.wait()

    async def strike(self, blow: Blow) -> Struck:
        """End it, and wait until it has gone. Raises Stuck."""
        began = time()
        self._url = None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL if blow is Blow.KILL else signal.SIGTERM)
        await self._gone()
        return Struck(began, blow, time(), self.node)

    def hang_up(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    @property
    def alive(self) -> bool:
        return self._process is not None and _runs(self._process.pid)

    @property
    def _tree(self) -> Path:
        """The program's folder; the first node may run the version before."""
        return Path(BEFORE).absolute() if BEFORE and self.node == 0 else ROOT

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "tests.chaos.served", "serve"),
            *("--config", str(self.routes), "--store", option(self.store)),
            *("--port", "0", "--log-format", "json", "--engine", self._engine),
        ]

    def _announced(self, begin: int) -> str | None:
        with self.log.open("rb") as log:
            log.seek(begin)
            for line in log.read().splitlines(keepends=True):
                if line.endswith(b"\n") and b'"serving"' in line:
                    return str(json.loads(line)["url"])
        return None

    async def _gone(self) -> None:
        deadline = time() + PATIENCE
        while self.alive:
            if time() > deadline:
                raise Stuck(f"a router does not end: {self.pid}")
            await asyncio.sleep(0.005)


def _runs(pid: int) -> bool:
    place = Path(f"/proc/{pid}")
    try:
        state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(list((place / "task").iterdir())) > 1
    except OSError:
        return False
