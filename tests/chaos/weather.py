"""The database that the nodes share, each through a proxy of its own, and its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.chaos.plan import Plan, Storm
from tests.support.postgres import Database, Server
from tests.support.proxy import Loss, Proxy, proxy
from tests.support.rows import Store


class Calm:
    """One file for all nodes, without faults."""

    def __init__(self, store: Path) -> None:
        self.store: Store = store

    def seen_by(self, node: int) -> Store:
        """Return the store as that node reaches it."""
        return self.store

    async def strike(self, storm: Storm, node: int, seconds: float) -> None:
        """Nothing."""


class Weather:
    """A database, and the nodes' ways to it."""

    def __init__(self, server: Server, database: Database, proxies: list[Proxy]) -> None:
        self._server = server
        self._proxies = proxies
        self.store: Store = database
        self._seen: list[Store] = [database.through(each.port) for each in proxies]

    def seen_by(self, node: int) -> Store:
        """Return the store as that node reaches it."""
        return self._seen[node]

    async def strike(self, storm: Storm, node: int, seconds: float) -> None:
        """Let it rage for so long; all is well when this returns."""
        with ExitStack() as raging:
            await asyncio.to_thread(raging.enter_context, self._raging(storm, node))
            await asyncio.sleep(seconds)
            await asyncio.to_thread(raging.close)

    def _raging(self, storm: Storm, node: int) -> AbstractContextManager[None]:
        way = self._proxies[node]
        match storm:
            case Storm.RESTART | Storm.CRASH:
                return self._server.down(immediately=storm is Storm.CRASH)
            case Storm.FREEZE:
                return self._server.hanging()
            case Storm.REFUSES:
                return way.refusing()
            case Storm.CUT_OFF:
                return way.hanging()
            case Storm.SLOW:
                return way.slow(0.1)
            case Storm.RESETS:
                return way.cutting()
            case Storm.LOSES:
                return way.losing(b"", Loss.ANSWERING)


@contextmanager
def weather(plan: Plan, folder: Path) -> Iterator[Calm | Weather]:
    """Provide the store of a plan, until the block ends. Raises NoServer."""
    if not plan.database:
        yield Calm(folder / "store.db")
        return
    with ExitStack() as at_last:
        server = Server()
        at_last.callback(server.close)
        server.start()
        database = at_last.enter_context(server.database())
        ways = [at_last.enter_context(proxy(server.port)) for _ in range(plan.nodes)]
        yield Weather(server, database, ways)
