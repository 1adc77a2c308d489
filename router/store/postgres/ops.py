"""What people ask of a PostgreSQL store, on a connection of their own beside the routers'."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from typing import Any

from router.store import listing
from router.store.listing import Query
from router.store.nodes import Node
from router.store.ops import START, Action, Count, Dossier, Entry, Resend, Resent, Selection
from router.store.pauses import Pause
from router.store.postgres import rows
from router.store.postgres.address import DatabaseAddress
from router.store.postgres.clock import Clock
from router.store.postgres.connection import Row
from router.store.postgres.listing import EVENT, dialect, entry
from router.store.postgres.migrating import check, failed
from router.store.postgres.nodes import PostgresNodes
from router.store.postgres.pool import ServerPool
from router.store.postgres.resending import Resending
from router.store.postgres.trouble import Failed
from router.store.promises import StoreFailed, StoreLimits

#: How long a question may take, and a step of an action, in seconds.
READING, ACTING = 300.0, 5.0


class PostgresOps:
    """One call after another; a cancelled one ends its connection."""

    def __init__(
        self, address: DatabaseAddress, limits: StoreLimits, now: Callable[[], float] | None = None
    ) -> None:
        self._schema = address.schema
        self._dialect = dialect(address.schema)
        self._limits = limits
        self._limits_asked = rows.limits(limits)
        clock = Clock()
        self._pool = ServerPool(address, clock.ask, size=1)
        self._nodes = PostgresNodes(self._pool)
        self.now = now or clock.now

    @classmethod
    async def open(
        cls, address: DatabaseAddress, limits: StoreLimits, now: Callable[[], float] | None = None
    ) -> PostgresOps:
        """Raises StartFailed, with one line, for a database that can't be used. Makes nothing."""
        ops = cls(address, limits, now)
        try:
            await ops._pool.open()
            async with ops._pool.connection() as connection:
                await check(connection, address)
        except StoreFailed as error:
            await ops.close()
            why = error.message if isinstance(error, Failed) else error.told
            raise failed(address, why) from None
        except BaseException:
            await ops.close()
            raise
        return ops

    async def counts(self, selection: Selection) -> tuple[Count, ...]:
        return tuple(map(listing.count, await self._read(self._dialect.counts(selection))))

    async def pages(
        self, selection: Selection, size: int, after: tuple[int, str] = START
    ) -> AsyncIterator[tuple[Entry, ...]]:
        while page := await self._page(selection, after, size):
            yield page
            after = (page[-1].seq, page[-1].row.target)

    async def dossier(self, event_id: str) -> Dossier | None:
        sql = EVENT.format(schema=f"{self._schema}.")
        found = await self._pool.fetch(sql, [event_id], READING)
        if not found:
            return None
        (event,) = found
        entries = await self._page(Selection(event_ids=(event_id,)), START, sys.maxsize)
        tried = listing.attempts(await self._read(self._dialect.attempts(event_id)))
        return Dossier(rows.record(event[:9]), rows.letter(event[9:]), entries, tried)

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        now = self.now()
        changes = [_change(action, each, now) for each in entries if action.verb.fits(each.row)]
        values = [rows.dumped(asdict(action)), rows.dumped(changes), now, self._limits_asked]
        ((changed,),) = await self._pool.call("act", values, ACTING)
        return int(changed)

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Resent:
        try:
            async with asyncio.timeout(ACTING), self._pool.connection() as connection:
                try:
                    step = Resending(connection, self._schema, self._limits, self._limits_asked)
                    return await step.do(action, target, events, self.now())
                except BaseException:
                    connection.close()  # and its transaction with it
                    raise
        except TimeoutError:
            raise StoreFailed("slow") from None

    async def actions(self, limit: int) -> tuple[Action, ...]:
        return tuple(map(listing.action, await self._read(self._dialect.actions(limit))))

    async def pauses(self) -> tuple[Pause, ...]:
        return tuple(Pause(*row) for row in await self._pool.call("pauses", [], READING))

    async def put_pause(self, pause: Pause) -> None:
        await self._pool.call("put_pause", [rows.dumped(asdict(pause))], ACTING)

    async def end_pause(self, target: str, who: str) -> Pause | None:
        found = await self._pool.call("end_pause", [target, who, self.now()], ACTING)
        return Pause(*found[0]) if found else None

    async def nodes(self) -> tuple[Node, ...]:
        """The processes that share the store."""
        return await self._nodes.present(READING)

    async def close(self) -> None:
        await self._pool.close()

    async def _page(
        self, selection: Selection, after: tuple[int, str], size: int
    ) -> tuple[Entry, ...]:
        return tuple(map(entry, await self._read(self._dialect.page(selection, after, size))))

    async def _read(self, query: Query) -> list[Row]:
        return await self._pool.fetch(query.sql, query.values, READING)


def _change(action: Action, entry: Entry, now: float) -> dict[str, Any]:
    """From what it was looked at to what it becomes."""
    return {
        "seq": entry.seq,
        "was": entry.row.state,
        "later": entry.acknowledged_later_at,
        **rows.delivery(action.verb.acted(entry, now)),
    }
