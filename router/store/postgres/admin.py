"""People's work with a PostgreSQL store, on a connection of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from router.routing.index import Glob
from router.store import queries
from router.store.admin import START, Action, Count, Dossier, Entry, Resend, Resent, Selection
from router.store.postgres import encoding
from router.store.postgres.connection import Failed, Row, ServerConnection
from router.store.postgres.encoding import regex, to_json, unescaped
from router.store.postgres.pool import Clock, ServerPool
from router.store.postgres.schema import check, failed
from router.store.postgres.store import PostgresNodes
from router.store.protocol import (
    RETRIED,
    DeliveryRow,
    Node,
    Pause,
    State,
    StoreFailed,
    StoreFull,
    StoreLimits,
)
from router.store.queries import Dialect, Query, Values, event_size, fitting
from router.store.url import Database

_TABLES = """
{schema}deliveries d JOIN {schema}events e USING (seq) LEFT JOIN {schema}letters l USING (seq)
"""

EVENT = """
SELECT e.event_id, e.stage, e.first_at, e.requests, e.replied_at, e.due_at, e.credit_until,
    e.ends_at, e.spent OR e.seq <= (SELECT c.spent_up_to FROM {schema}credit c),
    e.digest, l.request_id, l.traceparent, l.tracestate, l.hops,
    l.event_source, l.event_topic, l.event_type, l.event_status, l.event_key, l.body
FROM {schema}events e JOIN {schema}letters l USING (seq) WHERE e.event_id = $1
"""


def dialect(schema: str) -> Dialect:
    prefix = f"{schema}."
    return Dialect(_TABLES.format(schema=prefix), "l.event_key", _fits, _known, prefix)


def _known(word: str) -> str:
    return f"""{word}::text IN (e.event_id, l.request_id, substr(l.traceparent, 4, 32))
        OR (length({word}) > 5 AND starts_with(encode(e.digest, 'hex'), {word}))
        OR position(convert_to('"' || {word} || '"', 'UTF8') IN l.body) > 0"""


def entry(row: Row) -> Entry:
    escaped = queries.entry(row)
    return replace(escaped, event_key=unescaped(escaped.event_key))


def _fits(values: Values, keys: tuple[Glob, ...]) -> str:
    return f"l.event_key ~ ANY ({values.put([regex(key) for key in keys])}::text[])"


_USED = """
SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint
FROM usage WHERE target = $1
"""

#: Locked in the order that all statements use.
_BEFORE = """
SELECT e.event_id, e.seq, e.size, d.state, d.acknowledged_later_at, a.action_id
FROM events e LEFT JOIN deliveries d ON d.seq = e.seq AND d.target = $2
    LEFT JOIN actions a ON a.seq = d.action
WHERE e.event_id = ANY ($1::text[]) ORDER BY e.seq FOR UPDATE OF e
"""

#: No deadline: a replayed event never has credit.
_NEVER = 1e12


class Resending:
    """One step of a replay, in a transaction."""

    def __init__(
        self, connection: ServerConnection, schema: str, limits: StoreLimits, limits_json: str
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._limits, self._limits_json = limits, limits_json

    async def do(self, action: Action, target: str, events: Sequence[Resend], now: float) -> Resent:
        """If it raises, the connection has to be closed."""
        fetch = self._connection.fetch
        await fetch("BEGIN")
        await fetch(f"SET LOCAL search_path = {self._schema}, pg_temp")
        sizes = [event_size(event.letter.event) for event in events]
        whole, of_target = [await self._used(name) for name in ("", target)]
        taken = fitting(sizes, whole, of_target, self._limits)
        queued = await self._queue(action, target, events[:taken], now)
        if taken or not sizes:
            place = events[taken - 1].place if taken else (None, None)
            await fetch(
                "UPDATE actions SET since = $1, place_at = $2, place_event = $3 "
                "WHERE action_id = $4",
                [action.since, *place, action.action_id],
            )
        await fetch("COMMIT")
        return Resent(taken, queued)

    async def _queue(
        self, action: Action, target: str, events: Sequence[Resend], now: float
    ) -> int:
        row = DeliveryRow(target, State.QUEUED, due_at=now)
        columns = encoding.delivery(row)
        before = await self._before(events, target)
        await self._add([e for e in events if e.record.event_id not in before], row)
        for _, seq, size, state, *_ in before.values():
            if state is None:
                await self._call("put", seq, size, to_json([columns]), now)
        changing = [e for e in events if not _stays(before.get(e.record.event_id), action)]
        changes = [
            {"seq": seq, "was": state, "later": later, **columns}
            for _, seq, _, state, later, _ in (await self._before(changing, target)).values()
        ]
        ((queued,),) = await self._call(
            "act", to_json(asdict(action)), to_json(changes), now, self._limits_json
        )
        return int(queued)

    async def _used(self, target: str) -> tuple[int, int]:
        ((count, size),) = await self._connection.fetch(_USED, [target])
        return int(count), int(size)

    async def _before(self, events: Sequence[Resend], target: str) -> dict[str, Row]:
        """Return the events that the store has, with the state of their deliveries."""
        ids = [event.record.event_id for event in events]
        rows = await self._connection.fetch(_BEFORE, [ids, target])
        return {str(row[0]): row for row in rows}

    async def _add(self, events: Sequence[Resend], row: DeliveryRow) -> None:
        asks = [encoding.addition(e.record, e.letter, [row], _NEVER, ()) for e in events]
        bodies = [event.letter.event.body for event in events]
        rows = await self._call("add", to_json(asks), bodies, self._limits_json)
        if any(out_of for (out_of,) in rows):
            raise StoreFull  # another process has filled it meanwhile

    async def _call(self, function: str, *values: Any) -> list[Row]:
        marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        sql = f"SELECT * FROM {function}({marks})"  # noqa: S608 - our own words
        return await self._connection.fetch(sql, values)


def _stays(before: Row | None, action: Action) -> bool:
    if before is None:
        return False
    *_, state, _, action_id = before
    return state in RETRIED or bool(action_id == action.action_id)


#: The timeouts of a query and of a step of an action, in seconds.
READING, ACTING = 300.0, 5.0


class PostgresAdmin:
    """Works on one connection, one call after another; a cancelled call ends the connection."""

    def __init__(
        self, database: Database, limits: StoreLimits, now: Callable[[], float] | None = None
    ) -> None:
        self._schema = database.schema
        self._dialect = dialect(database.schema)
        self._limits = limits
        self._limits_json = encoding.limits(limits)
        clock = Clock()
        self._pool = ServerPool(database, clock.ask, size=1)
        self._nodes = PostgresNodes(self._pool)
        self.now = now or clock.now

    @classmethod
    async def open(
        cls, database: Database, limits: StoreLimits, now: Callable[[], float] | None = None
    ) -> PostgresAdmin:
        """Raises StartFailed, with one line, for a database that cannot be used. Makes nothing."""
        admin = cls(database, limits, now)
        try:
            await admin._pool.open()
            async with admin._pool.connection() as connection:
                await check(connection, database)
        except StoreFailed as error:
            await admin.close()
            why = error.message if isinstance(error, Failed) else error.text
            raise failed(database, why) from None
        except BaseException:
            await admin.close()
            raise
        return admin

    async def counts(self, selection: Selection) -> tuple[Count, ...]:
        return tuple(map(queries.count, await self._read(self._dialect.counts(selection))))

    async def pages(
        self, selection: Selection, size: int, after: tuple[int, str] = START
    ) -> AsyncIterator[tuple[Entry, ...]]:
        while page := await self._page(selection, after, size):
            yield page
            after = (page[-1].seq, page[-1].row.target)

    async def dossier(self, event_id: str) -> Dossier | None:
        sql = EVENT.format(schema=f"{self._schema}.")
        rows = await self._pool.fetch(sql, [event_id], READING)
        if not rows:
            return None
        (event,) = rows
        entries = await self._page(Selection(event_ids=(event_id,)), START, sys.maxsize)
        tried = queries.attempts(await self._read(self._dialect.attempts(event_id)))
        return Dossier(queries.record(event[:9]), encoding.letter(event[9:]), entries, tried)

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        now = self.now()
        changes = [_acted(action, each, now) for each in entries if action.verb.fits(each.row)]
        values = [
            to_json(asdict(action)),
            to_json(changes),
            now,
            self._limits_json,
        ]
        ((changed,),) = await self._pool.call("act", values, ACTING)
        return int(changed)

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Resent:
        try:
            async with asyncio.timeout(ACTING), self._pool.connection() as connection:
                try:
                    step = Resending(connection, self._schema, self._limits, self._limits_json)
                    return await step.do(action, target, events, self.now())
                except BaseException:
                    connection.end()  # and its transaction with it
                    raise
        except TimeoutError:
            raise StoreFailed("slow") from None

    async def actions(self, limit: int) -> tuple[Action, ...]:
        return tuple(map(queries.action, await self._read(self._dialect.actions(limit))))

    async def pauses(self) -> tuple[Pause, ...]:
        return tuple(Pause(*row) for row in await self._pool.call("pauses", [], READING))

    async def put_pause(self, pause: Pause) -> None:
        await self._pool.call("put_pause", [to_json(asdict(pause))], ACTING)

    async def end_pause(self, target: str, who: str) -> Pause | None:
        rows = await self._pool.call("end_pause", [target, who, self.now()], ACTING)
        return Pause(*rows[0]) if rows else None

    async def nodes(self) -> tuple[Node, ...]:
        return await self._nodes.present(READING)

    async def close(self) -> None:
        await self._pool.close()

    async def _page(
        self, selection: Selection, after: tuple[int, str], size: int
    ) -> tuple[Entry, ...]:
        return tuple(map(entry, await self._read(self._dialect.page(selection, after, size))))

    async def _read(self, query: Query) -> list[Row]:
        return await self._pool.fetch(query.sql, query.values, READING)


def _acted(action: Action, entry: Entry, now: float) -> dict[str, Any]:
    """Return the change from the state at the query to the new one."""
    return {
        "seq": entry.seq,
        "was": entry.row.state,
        "later": entry.acknowledged_later_at,
        **encoding.delivery(action.verb.acted(entry, now)),
    }
