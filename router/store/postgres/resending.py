"""Events queued again for one target, out of the functions of the schema, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from router.store.fullness import fitting, size_of
from router.store.ops import Action, Resend, Resent
from router.store.postgres import rows
from router.store.postgres.connection import Row, ServerConnection
from router.store.promises import RETRIED, DeliveryRow, State, StoreFull, StoreLimits

_USED = """
SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint
FROM usage WHERE target = $1
"""

#: Locked in the order that all do it in.
_STANDING = """
SELECT e.event_id, e.seq, e.size, d.state, d.acknowledged_later_at, a.action_id
FROM events e LEFT JOIN deliveries d ON d.seq = e.seq AND d.target = $2
    LEFT JOIN actions a ON a.seq = d.action
WHERE e.event_id = ANY ($1::text[]) ORDER BY e.seq FOR UPDATE OF e
"""

#: No deadline: what is put so is spent from the start anyhow.
_NEVER = 1e12


class Resending:
    """One step, on a connection of its own."""

    def __init__(
        self, connection: ServerConnection, schema: str, limits: StoreLimits, dumped: str
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._limits, self._dumped = limits, dumped

    async def do(self, action: Action, target: str, events: Sequence[Resend], now: float) -> Resent:
        """Where it raises, the connection has to be closed."""
        fetch = self._connection.fetch
        await fetch("BEGIN")
        await fetch(f"SET LOCAL search_path = {self._schema}, pg_temp")
        sizes = [size_of(event.letter.event) for event in events]
        used = [await self._used(name) for name in ("", target)]
        taken = fitting(sizes, used[0], used[1], self._limits)
        events = events[:taken]
        row = DeliveryRow(target, State.QUEUED, due_at=now)
        standing = await self._standing(events, target)
        await self._add([each for each in events if each.record.event_id not in standing], row)
        for found in standing.values():
            if found[3] is None:
                await self._call("put", found[1], found[2], rows.dumped([rows.delivery(row)]), now)
        fresh = {name for name, found in standing.items() if _stays(found, action)}
        again = await self._standing(
            [each for each in events if each.record.event_id not in fresh], target
        )
        changes = [_change(found, row) for found in again.values()]
        ((queued,),) = await self._call(
            "act", rows.dumped(asdict(action)), rows.dumped(changes), now, self._dumped
        )
        if taken or not sizes:
            what = f"{action.what} {events[-1].mark}" if taken else action.what
            await fetch(
                "UPDATE actions SET what = $1 WHERE action_id = $2", [what, action.action_id]
            )
        await fetch("COMMIT")
        return Resent(taken, int(queued))

    async def _used(self, target: str) -> tuple[int, int]:
        ((count, size),) = await self._connection.fetch(_USED, [target])
        return int(count), int(size)

    async def _standing(self, events: Sequence[Resend], target: str) -> dict[str, Row]:
        """Those that are in the store, and how their deliveries stand."""
        ids = [each.record.event_id for each in events]
        found = await self._connection.fetch(_STANDING, [ids, target])
        return {str(row[0]): row for row in found}

    async def _add(self, events: Sequence[Resend], row: DeliveryRow) -> None:
        asked = [rows.addition(each.record, each.letter, [row], _NEVER, ()) for each in events]
        bodies = [each.letter.event.body for each in events]
        if any(
            out_of
            for (out_of,) in await self._call("add", rows.dumped(asked), bodies, self._dumped)
        ):
            raise StoreFull  # others have filled it meanwhile

    async def _call(self, function: str, *values: Any) -> list[Row]:
        marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        sql = f"SELECT * FROM {function}({marks})"  # noqa: S608 - our own words
        return await self._connection.fetch(sql, values)


def _stays(found: Row, action: Action) -> bool:
    _, _, _, state, _, action_id = found
    return state in RETRIED or bool(action_id == action.action_id)


def _change(found: Row, row: DeliveryRow) -> dict[str, Any]:
    _, seq, _, state, later, _ = found
    return {"seq": seq, "was": state, "later": later, **rows.delivery(row)}
