"""People's work with a PostgreSQL store, on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from router.model.event import OutboundEvent
from router.routing.index import Glob
from router.store.admin import Action, Admin, Entry, Resend, Resent, Values, fitting
from router.store.postgres import encoding
from router.store.postgres.connection import Failed, Row, ServerConnection, calling
from router.store.postgres.encoding import KEY_TEXT, regex, to_json, unescaped
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
    event_size,
)
from router.store.url import Database

_USED = "SELECT coalesce(sum(bytes), 0)::bigint FROM usage WHERE target = $1"

#: Locked in the order that all statements use.
_BEFORE = """
SELECT e.event_id, e.seq, e.size, d.state, d.acknowledged_later_at, a.action_id
FROM events e LEFT JOIN deliveries d ON d.seq = e.seq AND d.target = $2
    LEFT JOIN actions a ON a.seq = d.action
WHERE e.event_id = ANY ($1::text[]) ORDER BY e.seq FOR UPDATE OF e
"""

_PROGRESS = """
UPDATE actions SET since = $1, place_at = $2, place_event = $3 WHERE action_id = $4
"""

#: No deadline: a replayed event never has credit.
_NEVER = 1e12

#: The timeouts of a query and of a step of an action, in seconds.
READING, ACTING = 300.0, 5.0


class PostgresAdmin(Admin):
    """Works on one connection, one call after another; a cancelled call ends the connection."""

    _key = "l.event_key"
    _body = "l.body"

    def __init__(
        self, database: Database, limits: StoreLimits, now: Callable[[], float] | None = None
    ) -> None:
        clock = Clock()
        super().__init__(now or clock.now)
        self._schema = schema = f"{database.schema}."
        self._event_tables = f"{schema}events e JOIN {schema}letters l USING (seq)"
        self._page_tables = self._count_tables = (
            f"{schema}deliveries d JOIN {schema}events e USING (seq) "
            f"LEFT JOIN {schema}letters l USING (seq)"
        )
        self._database = database
        self._limits = limits
        self._limits_json = encoding.limits(limits)
        self._pool = ServerPool(database, clock.ask, size=1)
        self._nodes = PostgresNodes(self._pool)

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
        except BaseException as error:
            await admin.close()
            if isinstance(error, StoreFailed):
                why = error.message if isinstance(error, Failed) else error.text
                raise failed(database, why) from None
            raise
        return admin

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        now = self.now()
        changes = [
            {
                "seq": entry.seq,
                "was": entry.row.state,
                "later": entry.acknowledged_later_at,
                **encoding.delivery(action.verb.acted(entry, now)),
            }
            for entry in entries
            if action.verb.fits(entry.row)
        ]
        values = [to_json(asdict(action)), to_json(changes), now, self._limits_json]
        ((changed,),) = await self._pool.call("act", values, ACTING)
        return int(changed)

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Resent:
        try:
            async with asyncio.timeout(ACTING), self._pool.connection() as connection:
                try:
                    return await self._resend(connection, action, target, events)
                except BaseException:
                    connection.end()  # and its transaction with it
                    raise
        except TimeoutError:
            raise StoreFailed("slow") from None

    async def _resend(
        self, connection: ServerConnection, action: Action, target: str, events: Sequence[Resend]
    ) -> Resent:
        fetch = connection.fetch
        await fetch("BEGIN")
        await fetch(f"SET LOCAL search_path = {self._database.schema}, pg_temp")
        sizes = [event_size(event.letter.event) for event in events]
        whole, of_target = [(await fetch(_USED, [name]))[0][0] for name in ("", target)]
        taken = fitting(sizes, whole, of_target, self._limits)
        queued = await self._queue(fetch, action, target, events[:taken])
        if taken or not sizes:
            place = events[taken - 1].place if taken else (None, None)
            await fetch(_PROGRESS, [action.since, *place, action.action_id])
        await fetch("COMMIT")
        return Resent(taken, queued)

    async def _queue(
        self, fetch: Fetch, action: Action, target: str, events: Sequence[Resend]
    ) -> int:
        """Queue events, unless their deliveries stay as they are, and return how many."""
        now = self.now()
        row = DeliveryRow(target, State.QUEUED, due_at=now)
        columns = encoding.delivery(row)
        before = await _before(fetch, events, target)
        await self._add(fetch, [e for e in events if e.record.event_id not in before], row)
        for _, seq, size, state, *_ in before.values():
            if state is None:
                put = [seq, size, to_json([columns]), now]
                await fetch(calling("put", put), put)
        changing = [
            event
            for event in events
            if (was := before.get(event.record.event_id)) is None
            or was[3] is None
            or not (event.once or was[3] in RETRIED or was[5] == action.action_id)
        ]
        changes = [
            {"seq": seq, "was": state, "later": later, **columns}
            for _, seq, _, state, later, _ in (await _before(fetch, changing, target)).values()
        ]
        act = [to_json(asdict(action)), to_json(changes), now, self._limits_json]
        ((queued,),) = await fetch(calling("act", act), act)
        return int(queued)

    async def _add(self, fetch: Fetch, events: Sequence[Resend], row: DeliveryRow) -> None:
        asks = [encoding.addition(e.record, e.letter, [row], _NEVER, ()) for e in events]
        bodies = [event.letter.event.body for event in events]
        add = [to_json(asks), bodies, self._limits_json]
        if any(out_of for (out_of,) in await fetch(calling("add", add), add)):
            raise StoreFull  # another process has filled it meanwhile

    async def put_pause(self, pause: Pause) -> None:
        await self._pool.call("put_pause", [to_json(asdict(pause))], ACTING)

    async def end_pause(self, target: str, who: str) -> Pause | None:
        rows = await self._pool.call("end_pause", [target, who, self.now()], ACTING)
        return Pause(*rows[0]) if rows else None

    async def nodes(self) -> tuple[Node, ...]:
        return await self._nodes.present(READING)

    async def close(self) -> None:
        await self._pool.close()

    async def _read(self, sql: str, values: Values) -> list[Row]:
        return await self._pool.fetch(sql, values, READING)

    def _letter(self, columns: Sequence[Any]) -> OutboundEvent:
        return encoding.letter(columns)

    def _entry(self, row: Sequence[Any]) -> Entry:
        entry = super()._entry(row)
        return replace(entry, event_key=unescaped(entry.event_key))

    def _fits(self, pattern: Glob, values: Values) -> str:
        return f"{KEY_TEXT} ~ {values.put(regex(pattern))}"

    def _known(self, word: str) -> str:
        return f"""{word}::text IN (e.event_id, l.request_id, substr(l.traceparent, 4, 32))
            OR (length({word}) > 5 AND starts_with(encode(e.digest, 'hex'), {word}))
            OR position(convert_to('"' || {word} || '"', 'UTF8') IN l.body) > 0"""


#: `ServerConnection.fetch`, in a transaction.
Fetch = Callable[[str, Sequence[Any]], Awaitable[list[Row]]]


async def _before(fetch: Fetch, events: Sequence[Resend], target: str) -> dict[str, Row]:
    """Return the events that the store has, with the state of their deliveries."""
    ids = [event.record.event_id for event in events]
    return {str(row[0]): row for row in await fetch(_BEFORE, [ids, target])}
