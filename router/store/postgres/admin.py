"""People's work with a PostgreSQL store, on a connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from router.routing.index import Glob
from router.store.admin import Action, Admin, Entry, Resend, Step, Values
from router.store.postgres.connection import Failed, Row
from router.store.postgres.pool import Clock, ServerPool
from router.store.postgres.schema import check, failed
from router.store.postgres.store import (
    addition_of,
    delivery_of,
    to_json,
    unescaped,
)
from router.store.protocol import DeliveryRow, Node, Pause, State, StoreFailed, StoreLimits, Trouble
from router.store.url import Database

#: No deadline: a replayed event never has credit.
_NEVER = 1e12

#: The timeouts of a query and of a step of an action, in seconds.
READING, ACTING = 300.0, 5.0


class PostgresAdmin(Admin):
    """Works on one connection, one call after another; a cancelled call ends the connection."""

    _key = "l.event_key"
    _body = "l.body"
    _text = staticmethod(unescaped)

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
        self._limits_json = to_json(asdict(limits))
        self._pool = ServerPool(database, clock.ask, size=1)

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
                **delivery_of(action.verb.acted(entry, now)),
            }
            for entry in entries
            if action.verb.fits(entry.row)
        ]
        values = [to_json(asdict(action)), to_json(changes), now, self._limits_json]
        ((changed,),) = await self._pool.call("act", values, ACTING)
        return int(changed)

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Step:
        now = self.now()
        rows = [DeliveryRow(target, State.QUEUED, due_at=now)]
        asks = [
            {**addition_of(e.record, e.letter, rows, _NEVER, ()), "once": e.once} for e in events
        ]
        bodies = [event.letter.event.body for event in events]
        values = [to_json(asdict(action)), target, to_json(asks), bodies, now, self._limits_json]
        # A second call would find less room, and note another place.
        ((taken, queued),) = await self._pool.call("resend", values, ACTING, twice=False)
        return Step(taken, queued)

    async def put_pause(self, pause: Pause) -> None:
        await self._pool.call("put_pause", [to_json(asdict(pause))], ACTING)

    async def end_pause(self, target: str, who: str) -> Pause | None:
        rows = await self._pool.call("end_pause", [target, who, self.now()], ACTING)
        return Pause(*rows[0]) if rows else None

    async def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(**{**node, "troubles": tuple(Trouble(**trouble) for trouble in node["troubles"])})
            for (node,) in await self._pool.call("present", [], READING)
        )

    async def close(self) -> None:
        await self._pool.close()

    async def _read(self, sql: str, values: Values) -> list[Row]:
        return await self._pool.fetch(sql, values, READING)

    def _fits(self, pattern: Glob, values: Values) -> str:
        return f"{KEY_TEXT} ~ {values.put(regex(pattern))}"

    def _known(self, word: str) -> str:
        return f"""{word}::text IN (e.event_id, l.request_id, substr(l.traceparent, 4, 32))
            OR (length({word}) > 5 AND starts_with(encode(e.digest, 'hex'), {word}))
            OR position(convert_to('"' || {word} || '"', 'UTF8') IN l.body) > 0"""


#: The text of an event's key, with \x01 for a NUL, which PostgreSQL does not have. The largest code
#: point keeps backslashes apart from what follows them.
KEY_TEXT = r"""
replace(replace(replace(l.event_key, '\\', chr(1114111)), '\0', chr(1)), chr(1114111), '\')
"""


def regex(glob: Glob) -> str:
    """Translate a pattern for the operator `~` and KEY_TEXT, in a database in UTF-8. Every
    character is written as its number, so that none has a special meaning."""
    text, *rest = glob.parts
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return f"^{_literal(text)}{''.join(_wildcard(w) + _literal(t) for w, t in pairs)}$"


def _literal(text: str) -> str:
    return "".join(f"\\U{ord(character) or 1:08x}" for character in text)


def _wildcard(text: str) -> str:
    if text[0] in "*?":
        return ".*" if text[0] == "*" else "."
    left = text[1:-1].removeprefix("!")
    excluded, members = "^" if text[1] == "!" else "", ""
    while left:
        last = 2 if len(left) > 2 and left[1] == "-" else 0
        members += f"{_literal(left[0])}-{_literal(left[last])}"
        left = left[last + 1 :]
    return f"[{excluded}{members}]"
