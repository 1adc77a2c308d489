"""The store, kept in PostgreSQL: each call is one of the schema's functions."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from router.model.event import FIELDS, OutboundEvent
from router.store.postgres.connection import MOVED, Away, Failed, Row, ServerConnection
from router.store.postgres.pool import Batch, Clock, ServerPool
from router.store.postgres.schema import failed, migrate
from router.store.protocol import (
    ASKED,
    CLOSE_TIMEOUT,
    COLUMNS,
    FORGOTTEN,
    GONE,
    LAST,
    MAX_FOUND,
    DeliveryRow,
    Due,
    Early,
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
    Usage,
    event_columns,
    letter_of,
    usage_of,
)
from router.store.url import Database


class PostgresNodes:
    """The processes that share a store, on its connections."""

    def __init__(self, pool: ServerPool) -> None:
        self._call = pool.call

    async def beat(self, node: Node, timeout: float) -> Mapping[str, int]:
        return dict(await self._call("beat", [to_json(asdict(node)), GONE, FORGOTTEN], timeout))

    async def leave(self, node_id: str, timeout: float) -> None:
        await self._call("leave", [node_id], timeout)


#: The most look-ups, and the most writes, that share a statement.
LOOKUPS, WRITES = 256, 64

#: The pause between two queries of the server's clock and timeline, in seconds.
CLOCK_PAUSE = 10.0

#: The cluster of a server, and its timeline, which the names of its log's files begin with. Each
#: promotion begins a later one.
_TIMELINE = """
SELECT system_identifier::text, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
FROM pg_control_system()
"""

#: The timeout of an attempt to revoke the credit of late events, and the pause between two, in
#: seconds.
_FENCE_TIMEOUT, _FENCE_PAUSE = 10.0, 0.5

#: The most events of one such attempt: the cost of a statement grows with their square.
_FENCED = 500

#: No look-up takes longer, in seconds.
_LONGEST_LOOKUP = 30.0

#: If more backends have counted a target's deliveries, the rows of those that have ended are summed
#: up.
_MANY_BACKENDS = 64


@dataclass(slots=True)
class _Addition:
    ask: dict[str, Any]
    body: bytes
    #: It may have been carried out.
    sent: bool = False


class PostgresStore:
    """Sends the calls of concurrent requests to the server together, each kind by itself.

    It keeps nothing in a session, so that a pooler may give each statement another connection.
    """

    remembers = True

    def __init__(self, database: Database, limits: StoreLimits) -> None:
        self._database = database
        self._limits = limits
        self._limits_json = to_json(asdict(limits))
        self._clock = Clock()
        #: The latest cluster and timeline that a server has shown, and those for which credit was
        #: revoked.
        self._latest = self._timeline = ("", "")
        self._pool = ServerPool(database, self._greet)
        self.nodes: Nodes | None = PostgresNodes(self._pool)
        #: Events that were added too late, or perhaps: they have no credit. An event stays here
        #: until every look-up that may have read it before its fence has ended.
        self._late: set[str] = set()
        #: Those of them whose credit is not revoked at the server yet.
        self._unfenced: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._find = Batch(self._find_all, LOOKUPS)
        self._add = Batch(self._add_all, WRITES, lambda addition: len(addition.body))
        self._settle = Batch(self._settle_all, WRITES)
        self._acknowledge = Batch(partial(self._results, "acknowledge"), WRITES)
        self._finish = Batch(partial(self._results, "finish"), WRITES)
        self._supersede = Batch(partial(self._void, "supersede"), WRITES)
        self._missed = Batch(partial(self._void, "missed"), WRITES)
        #: The targets without room for attempts, `""` for the whole store.
        self._full: frozenset[str] = frozenset()

    @classmethod
    async def open(cls, database: Database, limits: StoreLimits) -> PostgresStore:
        """Connect, and make or upgrade the schema.

        Raises StartFailed, with one line, if another attempt does not help, and StoreFailed if it
        may: the server is unreachable or not ready.
        """
        store = cls(database, limits)
        try:
            await store._pool.open()
            async with store._pool.connection() as connection:
                await migrate(connection, database)
        except BaseException as error:
            await store._pool.close()
            if isinstance(error, Failed) and error.hopeless:
                raise failed(database, error.message) from None
            raise
        store._start(store._keep_time())
        return store

    def now(self) -> float:
        return self._clock.now()

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        events = await self._find.ask(digest, min(timeout, _LONGEST_LOOKUP))
        return tuple([event.without_late_credit(self._late) for event in events])

    async def add(
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        # The server's clock decides, and this one may be slow.
        deadline = self.now() + timeout - self._clock.error
        addition = _Addition(
            addition_of(record, letter, rows, deadline, self._full), letter.event.body
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
        ask = _settlement(settlement, uuid.uuid4().hex, self._full)
        return await self._settle.ask(ask, timeout)

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        *,
        by: str = "",
    ) -> None:
        ask = {"event_ids": list(event_ids), "reached": list(reached), "now": now, "by_event": by}
        await self._supersede.ask(ask, timeout)

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        ask = {"event_id": event_id, "target": target, "now": now}
        return await self._acknowledge.ask(ask, timeout)

    async def missed(
        self, event_id: str, target: str, tried: Tried, ends_by: float, timeout: float
    ) -> None:
        reason = str(tried.attempt.reason)
        row = DeliveryRow(target, State.QUEUED, reason, recover_at=ends_by, tried=tried)
        await self._missed.ask({"event_id": event_id, **delivery_of(row, self._full)}, timeout)

    async def revoke_all_credit(self, timeout: float) -> None:
        await self._pool.call("spend_all", [], timeout)

    async def queue(self, timeout: float) -> Mapping[str, float]:
        return dict(await self._pool.call("queue", [], timeout))

    async def lease(
        self,
        target: str,
        now: float,
        until: float,
        limit: int,
        timeout: float,
        early: Early | None = None,
    ) -> tuple[Due, ...]:
        lease = uuid.uuid4().hex
        latest = ASKED if early is not None and early.asked else now
        begin, end = (0.0, 0.0) if early is None else early.request_window
        values = [target, latest, until, limit, lease, early is not None, begin, end]
        rows = await self._pool.call("lease", values, timeout)
        return tuple(Due.of(row, letter_of(row[10:], unescaped), lease) for row in rows)

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        ask = {"event_id": due.event_id, "lease": due.lease, "now": now}
        ask |= delivery_of(row, self._full)
        return await self._finish.ask(ask, timeout)

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        rows = await self._pool.call("end_over", [now, limit, self._limits_json], timeout)
        return tuple(Ended(of, unescaped(key), *rest) for of, key, *rest in rows)

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        ((pruned,),) = await self._pool.call("prune", [now, limit, self._limits_json], timeout)
        return int(pruned)

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        return tuple(Pause(*row) for row in await self._pool.call("pauses", [], timeout))

    async def notice(self, name: str, timeout: float) -> Notice | None:
        rows = await self._pool.call("notice", [name], timeout)
        return Notice(*rows[0]) if rows else None

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        asked = to_json([name, astuple(notice), before and astuple(before)])
        ((is_first,),) = await self._pool.call("notify_of", [asked], timeout)
        return bool(is_first)

    async def usage(self, timeout: float) -> Usage:
        rows = await self._pool.call("used", [], timeout)
        if any(row[4] > _MANY_BACKENDS for row in rows):
            await self._pool.call("fold_usage", [], timeout)
        oldest = rows[0][5] if rows else None
        usage = usage_of((row[:4] for row in rows), oldest, self._limits)
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
        return await self._pool.call(function, [to_json(asks), self._limits_json], timeout)

    async def _find_all(self, digests: list[bytes], timeout: float) -> list[tuple[Kept, ...]]:
        # As one text: psycopg encodes an array of bytes element by element.
        quoted = [rf'"\\x{digest.hex()}"' for digest in digests]
        array = f"{{{','.join(quoted)}}}"
        results: list[list[Kept]] = [[] for _ in digests]
        found = await self._pool.call("find_records", [array, MAX_FOUND], timeout)
        for number, *columns, rows in found:
            kept = Kept(Record.of(columns), tuple(map(DeliveryRow.of, rows or ())))
            results[number - 1].append(kept)
        return list(map(tuple, results))

    async def _add_all(
        self, additions: list[_Addition], timeout: float
    ) -> Sequence[StoreFailed | None]:
        for addition in additions:
            addition.sent = True
        asks = to_json([addition.ask for addition in additions])
        bodies = [addition.body for addition in additions]
        rows = await self._pool.call("add", [asks, bodies, self._limits_json], timeout)
        return [_full(out_of) for (out_of,) in rows]

    async def _settle_all(
        self, asks: list[dict[str, Any]], timeout: float
    ) -> Sequence[bool | StoreFailed]:
        rows = await self._call_all("settle", asks, timeout)
        return [_full(out_of) or settled for settled, out_of in rows]

    async def _results(
        self, function: str, asks: list[dict[str, Any]], timeout: float
    ) -> list[bool]:
        return [result for (result,) in await self._call_all(function, asks, timeout)]

    async def _void(self, function: str, asks: list[dict[str, Any]], timeout: float) -> list[None]:
        await self._call_all(function, asks, timeout)
        return [None] * len(asks)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_PAUSE)
            with suppress(StoreFailed, TimeoutError):
                async with asyncio.timeout(CLOCK_PAUSE), self._pool.connection() as connection:
                    await self._greet(connection)

    async def _greet(self, connection: ServerConnection) -> None:
        """Query the clock and the timeline. Raises Failed or Lost.

        A standby that was promoted begins a new timeline, and may lack the last commits: a record
        that is open there may have had its `000`, so no other event of its body may rely on it.
        The server before it may still run, and not know yet: nothing may be read there either.
        """
        await self._clock.ask(connection)
        cluster, timeline = self._latest
        with suppress(Failed):  # a server of another make may not have one
            ((cluster, timeline),) = await connection.fetch(_TIMELINE)
        known_cluster, known_timeline = self._latest
        if cluster == known_cluster and timeline < known_timeline:
            raise Failed(MOVED, "another server was promoted in its place")
        self._latest = (cluster, timeline)
        if known_cluster and (cluster, timeline) != self._timeline:
            # First, since a revocation takes time, and the older server is tried beside it.
            self._pool.keep_only(connection)
            await connection.fetch(f"SELECT {self._database.schema}.spend_all()")
        self._timeline = (cluster, timeline)

    def _fence(self, event_id: str) -> None:
        """Revoke the credit of an event that may have been added, or may be added yet. Until that
        is done at the server, `find` leaves its credit out."""
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
        await self._pool.call("fence", [late, self.now(), self._limits_json], timeout)
        self._unfenced.difference_update(late)
        # A look-up that is under way may have read them before.
        loop = asyncio.get_running_loop()
        loop.call_later(_LONGEST_LOOKUP, self._late.difference_update, late)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _full(out_of: list[str] | None) -> StoreFull | None:
    """Translate the array of targets without room; `""` is the whole store."""
    if out_of is None:
        return None
    return StoreFull() if out_of == [""] else StoreFull(out_of)


def to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=_bytes)


def _bytes(of: bytes) -> str:
    return f"\\x{of.hex()}"


def addition_of(
    record: Record,
    letter: OutboundEvent,
    rows: Sequence[DeliveryRow],
    deadline: float,
    full: Collection[str],
) -> dict[str, Any]:
    return {
        **event_columns(record, letter),
        **{name: escaped(getattr(letter.event, name)) for name in FIELDS},
        "rows": [delivery_of(row, full) for row in rows],
        "deadline": deadline,
    }


def _settlement(of: Settlement, token: str, full: Collection[str]) -> dict[str, Any]:
    return {
        "event_id": of.record.event_id,
        **of.record.columns(),
        "digest": of.digest,
        "rows": [delivery_of(row, full) for row in of.rows],
        "reached": list(of.reached),
        "at": of.at,
        "token": token,
    }


def delivery_of(of: DeliveryRow, full: Collection[str] = ()) -> dict[str, Any]:
    """`full` has the targets without room for attempts, `""` for the whole store."""
    columns = of.columns()
    if tried := of.attempt_to_keep(full):
        values = dict(zip(COLUMNS, tried.values, strict=True))
        columns["tried"] = {**values, "size": tried.size, "last": LAST}
    return columns


def escaped(text: str) -> str:
    """Escape a text, which may have a NUL: that becomes `\\0`, and a backslash becomes two."""
    if "\0" in text or "\\" in text:
        return text.replace("\\", "\\\\").replace("\0", "\\0")
    return text


def unescaped(text: str) -> str:
    """Undo `escaped`."""
    if "\\" in text:
        return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], text)
    return text
