"""The store of a run, its faults and its contents at the end. It is a file, or a database that each
node reaches through a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tests.chaos.callers import body_of
from tests.chaos.plan import Plan, Storm
from tests.support.postgres import Server
from tests.support.proxy import Loss, Proxy, proxy
from tests.support.rows import Store, query


@dataclass(frozen=True)
class Weather:
    """The store, as nodes reach it, and its faults."""

    store: Store
    #: By node.
    seen: Sequence[Store]
    #: A file has no server, no proxies and no storms.
    server: Server | None = None
    proxies: Sequence[Proxy] = ()

    async def strike(self, storm: StrEnum, node: int, seconds: float) -> None:
        """Let a storm rage for so many seconds."""
        with ExitStack() as raging:
            await asyncio.to_thread(raging.enter_context, self._raging(Storm(storm), node))
            await asyncio.sleep(seconds)
            await asyncio.to_thread(raging.close)

    def _raging(self, storm: Storm, node: int) -> AbstractContextManager[None]:
        assert self.server is not None
        way = self.proxies[node]
        match storm:
            case Storm.RESTART | Storm.CRASH:
                return self.server.down(immediately=storm is Storm.CRASH)
            case Storm.FREEZE:
                return self.server.hanging()
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
def weather(plan: Plan, folder: Path) -> Iterator[Weather]:
    if not plan.database:
        file = folder / "store.db"
        yield Weather(file, [file] * plan.nodes)
        return
    with ExitStack() as at_last:
        server = Server()
        at_last.callback(server.close)
        server.start()
        database = at_last.enter_context(server.database())
        ways = [at_last.enter_context(proxy(server.port)) for _ in range(plan.nodes)]
        seen = [database.through(way.port) for way in ways]
        yield Weather(database, seen, server, ways)


class Row(NamedTuple):
    event_id: str
    stage: str
    digest: str
    target: str
    state: str
    reason: str
    changed_at: float


class Kept(NamedTuple):
    rows: list[Row]
    open_events: list[str]

    def of(self, body: int) -> list[Row]:
        digest = sha256(body_of(body)).hexdigest()
        return [row for row in self.rows if row.digest == digest]


def read(store: Store) -> Kept:
    rows = query(
        store,
        "SELECT event_id, stage, encode(digest, 'hex'), target, state, reason, changed_at "
        "FROM deliveries JOIN events USING (seq) ORDER BY changed_at",
    )
    opened = query(store, "SELECT event_id FROM events WHERE stage = 'open'")
    found = [Row._make((*row[:-1], float(row[-1]))) for row in rows]
    return Kept(found, [event_id for (event_id,) in opened])


def unsettled(store: Store) -> int:
    ((count,),) = query(
        store,
        "SELECT (SELECT count(*) FROM events WHERE stage = 'open') + "
        "(SELECT count(*) FROM deliveries WHERE state IN ('awaiting', 'queued'))",
    )
    return int(count)
