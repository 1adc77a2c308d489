"""The store, kept in PostgreSQL: each call is one of the schema's functions."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from itertools import islice
from typing import Any

from router.model.event import OutboundEvent
from router.store import queries
from router.store.postgres import encoding
from router.store.postgres.connection import Away, DatabaseAddress, Failed, Row, ServerConnection
from router.store.postgres.encoding import to_json
from router.store.postgres.pool import Batch, Clock, ServerPool
from router.store.postgres.schema import failed, migrate
from router.store.protocol import (
    CLOSE_TIMEOUT,
    FORGOTTEN,
    GONE,
    MAX_FOUND,
    DeliveryRow,
    Due,
    Ended,
    Kept,
    Node,
    Nodes,
    Notice,
    Pause,
    Record,
    Settlement,
    State,
    StoreFailed,
    StoreFull,
    StoreLimits,
    Tried,
    Trouble,
    Usage,
)


class PostgresNodes:
    """On the connections of a store."""

    def __init__(self, pool: ServerPool) -> None:
        self._call = pool.call

    async def beat(self, node: Node, timeout: float) -> Mapping[str, int]:
        return dict(await self._call("beat", [to_json(asdict(node)), GONE, FORGOTTEN], timeout))

    async def leave(self, node_id: str, timeout: float) -> None:
        await self._call("leave", [node_id], timeout)

    async def present(self, timeout: float) -> tuple[Node, ...]:
        """All whose rows are there, those that are gone included."""
        return tuple(_node(row) for (row,) in await self._call("present", [], timeout))


def _node(row: dict[str, Any]) -> Node:
    troubles = tuple(Trouble(**trouble) for trouble in row.pop("troubles"))
    return Node(**row, troubles=troubles)


#: The most look-ups, and the most writes, that share a statement.
LOOKUPS, WRITES = 256, 64

#: How often the server is asked for its clock and its history, in seconds.
CLOCK_PAUSE = 10.0

#: On which line of history the server is, as the names of its log's files begin.
_HISTORY = "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"

#: How long each try to spend what came too late may take, and the pause between two, in seconds.
_FENCE_TIMEOUT, _FENCE_PAUSE = 10.0, 0.5

#: The most that one such try spends. What a statement counts costs the square of how much it is.
_FENCED = 500

#: No look-up takes longer, in seconds.
_LONGEST_LOOKUP = 30.0

#: How many backends may have counted a target's deliveries before what those counted that are gone
#: is added up.
_MANY_BACKENDS = 64


@dataclass(slots=True)
class _Addition:
    ask: dict[str, Any]
    body: bytes
    #: It may have come to pass.
    sent: bool = False


class PostgresStore:
    """What several requests ask at the same time goes to the server together, each kind by itself.

    Nothing is kept in a session, so that a pooler may give each statement another connection.
    """

    remembers = True

    def __init__(self, address: DatabaseAddress, limits: StoreLimits) -> None:
        self._address = address
        self._limits = limits
        self._limits_asked = encoding.limits(limits)
        self._clock = Clock()
        #: The server's line of history when it last told it.
        self._history = ""
        self._pool = ServerPool(address, self._greet)
        self.nodes: Nodes | None = PostgresNodes(self._pool)
        #: Events that were added too late, or whose addition nobody has confirmed: they may be
        #: there, and grant nothing.
        self._late: set[str] = set()
        #: Those of them that the server has not spent yet.
        self._unfenced: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._find = Batch(self._find_all, LOOKUPS)
        self._add = Batch(self._add_all, WRITES, lambda addition: len(addition.body))
        self._settle = Batch(self._settle_all, WRITES)
        self._supersede = Batch(self._supersede_all, WRITES)
        self._acknowledge = Batch(self._acknowledge_all, WRITES)
        self._finish = Batch(self._finish_all, WRITES)
        self._missed = Batch(self._missed_all, WRITES)
        #: What is out of room for attempts: targets, and `""` for the store as a whole.
        self._full: frozenset[str] = frozenset()

    @classmethod
    async def open(cls, address: DatabaseAddress, limits: StoreLimits) -> PostgresStore:
        """Connect, and make the schema or bring it up to date.

        Raises StartFailed, with one line, where trying again does not help, and StoreFailed where
        it may: the server is away or not ready.
        """
        store = cls(address, limits)
        try:
            await store._pool.open()
            async with store._pool.connection() as connection:
                await migrate(connection, address)
        except BaseException as error:
            await store._pool.close()
            if isinstance(error, Failed) and error.hopeless:
                raise failed(address, error.message) from None
            raise
        store._start(store._keep_time())
        return store

    @property
    def connections(self) -> int:
        """How many there are to the server."""
        return self._pool.connections

    def now(self) -> float:
        return self._clock.now()

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        found = await self._find.ask(digest, min(timeout, _LONGEST_LOOKUP))
        if found and self._late:
            return tuple([each.without_late_credit(self._late) for each in found])
        return found

    async def add(
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        # The server's clock decides, and this one's may be behind it.
        deadline = self.now() + timeout - self._clock.error
        addition = _Addition(
            encoding.addition(record, letter, rows, deadline, self._full), letter.event.body
        )
        try:
            await self._add.ask(addition, timeout)
        except (StoreFull, Failed, Away):
            raise
        except BaseException:
            if addition.sent:
                self._fence(record.event_id)
            raise

    async def settle(self, settlement: Settlement, timeout: float) -> bool:
        ask = encoding.settlement(settlement, uuid.uuid4().hex, self._full)
        return await self._settle.ask(ask, timeout)

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        by: str = "",
    ) -> None:
        ask = {"event_ids": list(event_ids), "reached": list(reached), "now": now, "by_event": by}
        await self._supersede.ask(ask, timeout)

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        ask = {"event_id": event_id, "target": target, "now": now}
        return await self._acknowledge.ask(ask, timeout)

    async def missed(self, event_id: str, target: str, tried: Tried, timeout: float) -> None:
        row = DeliveryRow(target, State.QUEUED, str(tried.attempt.reason), tried=tried)
        await self._missed.ask(
            {"event_id": event_id, **encoding.delivery(row, self._full)}, timeout
        )

    async def revoke_all_credit(self, timeout: float) -> None:
        await self._pool.call("spend_all", [], timeout)

    async def queue(self, timeout: float) -> Mapping[str, float]:
        return dict(await self._pool.call("queue", [], timeout))

    async def take(
        self, target: str, now: float, until: float, limit: int, timeout: float
    ) -> tuple[Due, ...]:
        lease = uuid.uuid4().hex
        found = await self._pool.call("take_due", [target, now, until, limit, lease], timeout)
        return tuple(encoding.due(row, lease) for row in found)

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        ask = {"event_id": due.event_id, "lease": due.lease, "now": now}
        ask |= encoding.delivery(row, self._full)
        return await self._finish.ask(ask, timeout)

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        found = await self._pool.call("end_over", [now, limit, self._limits_asked], timeout)
        return tuple(encoding.ended(row) for row in found)

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        ((pruned,),) = await self._pool.call("prune", [now, limit, self._limits_asked], timeout)
        return int(pruned)

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        return tuple(Pause(*row) for row in await self._pool.call("pauses", [], timeout))

    async def notice(self, name: str, timeout: float) -> Notice | None:
        found = await self._pool.call("notice", [name], timeout)
        return Notice(*found[0]) if found else None

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        asked = encoding.to_json([name, astuple(notice), before and astuple(before)])
        ((is_first,),) = await self._pool.call("notify_of", [asked], timeout)
        return bool(is_first)

    async def usage(self, timeout: float) -> Usage:
        found = await self._pool.call("used", [], timeout)
        if any(row[4] > _MANY_BACKENDS for row in found):
            await self._pool.call("fold_usage", [], timeout)
        oldest = found[0][5] if found else None
        usage = queries.usage((row[:4] for row in found), oldest, self._limits)
        self._full = usage.full
        firsts = await self._pool.call("firsts", [], timeout)
        return replace(
            usage,
            first_ends={of: at for of, retries, at in firsts if retries is None},
            first_due={(of, retries): at for of, retries, at in firsts if retries is not None},
        )

    async def close(self) -> None:
        until = time.monotonic() + CLOSE_TIMEOUT
        batches = (self._add, self._settle, self._supersede, self._acknowledge, self._finish)
        for batch in (*batches, self._missed):
            await batch.close(max(0.0, until - time.monotonic()))
        with suppress(StoreFailed):
            while self._unfenced:
                await self._revoke_late(max(0.0, until - time.monotonic()))
        for task in self._tasks:
            task.cancel()
        await self._pool.close()

    async def _call_all(
        self, function: str, asks: Sequence[dict[str, Any]], timeout: float
    ) -> list[Row]:
        return await self._pool.call(
            function, [encoding.to_json(asks), self._limits_asked], timeout
        )

    async def _find_all(self, digests: list[bytes], timeout: float) -> list[tuple[Kept, ...]]:
        # As one text: psycopg writes an array of bytes element by element.
        asked_for = f"{{{','.join([encoding.quoted_bytes(digest) for digest in digests])}}}"
        found: list[list[Kept]] = [[] for _ in digests]
        for asked, *columns in await self._pool.call("find", [asked_for, MAX_FOUND], timeout):
            found[asked - 1].append(encoding.kept(tuple(columns)))
        return [tuple(each) for each in found]

    async def _add_all(
        self, additions: list[_Addition], timeout: float
    ) -> Sequence[StoreFailed | None]:
        for addition in additions:
            addition.sent = True
        asks = encoding.to_json([addition.ask for addition in additions])
        bodies = [addition.body for addition in additions]
        found = await self._pool.call("add", [asks, bodies, self._limits_asked], timeout)
        return [_full(out_of) for (out_of,) in found]

    async def _settle_all(
        self, asks: list[dict[str, Any]], timeout: float
    ) -> Sequence[bool | StoreFailed]:
        found = await self._call_all("settle", asks, timeout)
        return [_full(out_of) or settled for settled, out_of in found]

    async def _supersede_all(self, asks: list[dict[str, Any]], timeout: float) -> list[None]:
        await self._call_all("supersede", asks, timeout)
        return [None] * len(asks)

    async def _missed_all(self, asks: list[dict[str, Any]], timeout: float) -> list[None]:
        await self._call_all("missed", asks, timeout)
        return [None] * len(asks)

    async def _acknowledge_all(self, asks: list[dict[str, Any]], timeout: float) -> list[bool]:
        return [known for (known,) in await self._call_all("acknowledge", asks, timeout)]

    async def _finish_all(self, asks: list[dict[str, Any]], timeout: float) -> list[bool]:
        return [finished for (finished,) in await self._call_all("finish", asks, timeout)]

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_PAUSE)
            with suppress(StoreFailed, TimeoutError):
                async with asyncio.timeout(CLOCK_PAUSE), self._pool.connection() as connection:
                    await self._greet(connection)

    async def _greet(self, connection: ServerConnection) -> None:
        """Raises Failed or Lost.

        A standby that was promoted begins a new line, and may lack the last commits: a record that
        is open there may have had its `000`, and must not stand in for an event of the same body.
        """
        await self._clock.ask(connection)
        history = self._history
        with suppress(Failed):  # a server of another make may not tell it
            ((history,),) = await connection.fetch(_HISTORY)
        if self._history not in ("", history):
            await connection.fetch(f"SELECT {self._address.schema}.spend_all()")
        self._history = history

    def _fence(self, event_id: str) -> None:
        """It may have been added, or be added yet: take its credit, and only then show it as it
        is."""
        self._late.add(event_id)
        self._unfenced.add(event_id)
        if len(self._unfenced) == 1:
            self._start(self._revoke_all_late())

    async def _revoke_all_late(self) -> None:
        while self._unfenced:
            try:
                await self._revoke_late(_FENCE_TIMEOUT)
            except StoreFailed:
                await asyncio.sleep(_FENCE_PAUSE)

    async def _revoke_late(self, timeout: float) -> None:
        late = list(islice(self._unfenced, _FENCED))
        await self._pool.call("fence", [late, self.now(), self._limits_asked], timeout)
        self._unfenced.difference_update(late)
        # A look-up that is under way may have seen them as they were.
        loop = asyncio.get_running_loop()
        loop.call_later(_LONGEST_LOOKUP, self._late.difference_update, late)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _full(out_of: list[str] | None) -> StoreFull | None:
    """From the array of the targets that are out of room; `""` is the whole store."""
    if out_of is None:
        return None
    return StoreFull() if out_of == [""] else StoreFull(out_of)
