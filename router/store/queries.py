"""SQL that all stores share, for the deliveries that people look at; and how full a store is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from router.model.event import SUCCESS, Event, OutboundEvent
from router.routing.index import Glob
from router.store.admin import Action, Count, Entry, Later, ReplayPlace, Selection, Verb
from router.store.protocol import (
    COLUMNS,
    DeliveryRow,
    Due,
    Record,
    Stage,
    State,
    StoreLimits,
    Tried,
    Usage,
    attempt_of,
    receiver_text,
)

_LATER = {
    Later.INCLUDE: "",
    Later.EXCLUDE: "d.acknowledged_later_at IS NULL",
    Later.ONLY: "d.acknowledged_later_at IS NOT NULL",
}

_ENTRIES = """
SELECT d.seq, e.event_id, {key}, e.first_at, d.changed_at, d.acknowledged_later_at,
    d.target, d.state, d.reason, d.due_at, d.retries, d.attempts, d.recover_at, d.lease <> '',
    d.was_state, d.was_reason, d.later_event, t.code, t.msg, t.detail,
    {actions}
FROM {tables} LEFT JOIN {schema}actions a ON a.seq = d.action
LEFT JOIN {schema}attempts t ON t.seq = d.seq AND t.target = d.target AND t.number = (
    SELECT max(number) FROM {schema}attempts WHERE seq = d.seq AND target = d.target
)
WHERE (d.seq, d.target) > ({seq}, {target}) AND {condition}
ORDER BY d.seq, d.target LIMIT {size}
"""

_COUNTS = """
SELECT d.target, d.state, count(*), count(d.acknowledged_later_at), min(e.first_at)
FROM {tables} WHERE {condition} GROUP BY d.target, d.state
"""

_ATTEMPTS = f"""
SELECT target, number, {", ".join(COLUMNS)} FROM {{schema}}attempts
WHERE seq = (SELECT seq FROM {{schema}}events WHERE event_id = {{event_id}})
ORDER BY target, number
"""  # noqa: S608 - our own words

#: The columns of an action, in the order of `action`.
_ACTION = (
    "a.action_id, a.verb, a.who, a.what, a.at, a.deliveries, a.since, a.place_at, a.place_event"
)
_ACTIONS = "SELECT {actions} FROM {schema}actions a ORDER BY a.seq DESC LIMIT {size}"


#: A condition: the event has such a row in a table.
_EXISTS = "EXISTS (SELECT 1 FROM {} x WHERE x.seq = d.seq AND ({}))"

#: A condition: the last attempt of a delivery has failed.
_FAILED = "x.reason NOT IN ('', 'acknowledged')"


class Values(list[Any]):
    """The values of a query's `$1`, `$2`, …"""

    def put(self, value: Any) -> str:
        """Add one, and return its mark."""
        self.append(value)
        return f"${len(self)}"

    def all(self, values: tuple[Any, ...]) -> str:
        """Add several, and return their marks."""
        return ", ".join(map(self.put, values))


@dataclass(frozen=True, slots=True)
class Query:
    sql: str
    values: Values


@dataclass(frozen=True, slots=True)
class Dialect:
    """The parts of a query that differ between stores."""

    #: Deliveries as `d`, events as `e`, and the table with the key.
    tables: str
    #: The column with the event's key.
    key: str
    #: Makes a condition: one of the patterns matches the key.
    fits: Callable[[Values, tuple[Glob, ...]], str]
    #: Makes a condition: the event is known by a word.
    known: Callable[[str], str]
    #: The prefix of a table's name.
    schema: str = ""

    def counts(self, selection: Selection) -> Query:
        values = Values()
        condition = self._condition(selection, values)
        return Query(_COUNTS.format(tables=self.tables, condition=condition), values)

    def page(self, selection: Selection, after: tuple[int, str], size: int) -> Query:
        values = Values()
        sql = _ENTRIES.format(
            key=self.key,
            actions=_ACTION,
            tables=self.tables,
            schema=self.schema,
            seq=values.put(after[0]),
            target=values.put(after[1]),
            condition=self._condition(selection, values),
            size=values.put(size),
        )
        return Query(sql, values)

    def actions(self, limit: int) -> Query:
        values = Values()
        sql = _ACTIONS.format(actions=_ACTION, schema=self.schema, size=values.put(limit))
        return Query(sql, values)

    def attempts(self, event_id: str) -> Query:
        values = Values()
        return Query(_ATTEMPTS.format(schema=self.schema, event_id=values.put(event_id)), values)

    def _condition(self, selection: Selection, values: Values) -> str:
        """Join the conditions, the most expensive ones last."""
        terms = ["d.seq > 0"]
        if selection.event_ids:
            ids = values.all(selection.event_ids)
            terms.append(
                f"d.seq IN (SELECT seq FROM {self.schema}events WHERE event_id IN ({ids}))"  # noqa: S608
            )
        if selection.targets:
            terms.append(f"d.target IN ({values.all(selection.targets)})")
        if selection.states:
            terms.append(f"d.state IN ({values.all(selection.states)})")
        if selection.reasons:
            terms.append(f"d.reason IN ({values.all(selection.reasons)})")
        if selection.since is not None:
            terms.append(f"e.first_at >= {values.put(selection.since)}")
        if selection.until is not None:
            terms.append(f"e.first_at < {values.put(selection.until)}")
        if later := _LATER[selection.acknowledged_later]:
            terms.append(later)
        if selection.changed_since is not None:
            since = values.put(selection.changed_since)
            terms.append(_EXISTS.format(f"{self.schema}deliveries", f"x.changed_at >= {since}"))
        if selection.failed:
            failed = _EXISTS.format(f"{self.schema}deliveries", _FAILED)
            tried = _EXISTS.format(f"{self.schema}attempts", "true")
            terms.append(f"(e.stage <> 'closed' OR {failed} OR {tried})")
        if selection.codes:
            terms.append(self._has_code(selection.codes, values))
        if selection.keys:
            terms.append(self.fits(values, selection.keys))
        if selection.known_by:
            words = [self.known(values.put(word)) for word, _ in selection.known_by]
            words.append(self.fits(values, tuple(keys for _, keys in selection.known_by)))
            terms.append(f"({' OR '.join(words)})")
        return " AND ".join(terms)

    def _has_code(self, codes: tuple[str, ...], values: Values) -> str:
        marks = values.all(codes)
        answer = f"x.code IN ({marks}) OR CAST(x.status AS text) IN ({marks})"
        # The last reply for a record that is not closed was a failure.
        reply = f"CASE e.stage WHEN 'closed' THEN '{SUCCESS}' ELSE '500' END IN ({marks})"
        return f"({reply} OR {_EXISTS.format(f'{self.schema}attempts', answer)})"


def record(row: Sequence[Any]) -> Record:
    event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at, revoked = row
    times = (first_at, requests, replied_at, due_at, credit_until, ends_at)
    return Record(event_id, Stage(stage), *times, credit_revoked=bool(revoked))


def delivery_row(row: Sequence[Any]) -> DeliveryRow:
    target, state, reason, due_at, retries, attempts, recover_at, leased = row
    return DeliveryRow(
        target, State(state), reason, float(due_at), retries, attempts, recover_at, bool(leased)
    )


def columns(of: DeliveryRow) -> tuple[Any, ...]:
    """Return the columns that a write sets."""
    return of.target, of.state, of.reason, of.due_at, of.retries, of.attempts, of.recover_at


def due(row: Sequence[Any], letter: OutboundEvent, lease: str) -> Due:
    """Read the first ten columns of a leased delivery."""
    event_id, target, state, reason, due_at, retries, attempts, first_at, request_due_at = row[:9]
    before = DeliveryRow(target, State(state), reason, float(due_at), retries, attempts)
    return Due(event_id, before, letter, lease, first_at, request_due_at, bool(row[9]))


def count(row: tuple[Any, ...]) -> Count:
    target, state, *rest = row
    return Count(target, State(state), *rest)


def entry(row: tuple[Any, ...]) -> Entry:
    seq, event_id, event_key, first_at, changed_at, later = row[:6]
    delivery = delivery_row(row[6:14])
    was_state, was_reason, later_event, code, msg, detail = row[14:20]
    done = None if row[20] is None else action(row[20:])
    before = None if was_state is None else (State(was_state), was_reason)
    by = later_event or ""
    return Entry(
        seq, event_id, event_key, first_at, delivery, changed_at, later, done, before, by,
        receiver_text(code or "", msg or "", detail or ""),
    )  # fmt: skip


def attempts(rows: Iterable[tuple[Any, ...]]) -> dict[str, tuple[Tried, ...]]:
    """Group attempts by target, in order."""
    by_target: dict[str, list[Tried]] = {}
    for target, *columns in rows:
        by_target.setdefault(target, []).append(attempt_of(columns))
    return {target: tuple(attempts) for target, attempts in by_target.items()}


def action(row: tuple[Any, ...]) -> Action:
    action_id, verb, who, what, at, deliveries, since, place_at, place_event = row
    place = None if place_at is None else ReplayPlace(place_at, place_event)
    return Action(action_id, Verb(verb), who, what, at, deliveries, since, place)


#: The size of an event besides its body and key, with its rows and index entries, in bytes.
OVERHEAD = 1024


def event_size(event: Event) -> int:
    """Return the bytes that count for the limits."""
    return OVERHEAD + len(event.body) + len(event.event_key)


def usage(
    counted: Iterable[tuple[str, str, int, int]], oldest: float | None, limits: StoreLimits
) -> Usage:
    """Sum up rows of target, state, number and bytes: events under `""` and `""`, unsettled
    deliveries under their targets and states."""
    counts: dict[tuple[str, State], int] = {}
    #: The rows and bytes of a target, `""` for all events.
    sums: dict[str, tuple[int, int]] = {"": (0, 0)}
    for target, state, rows, size in counted:
        before = sums.get(target, (0, 0))
        sums[target] = (before[0] + rows, before[1] + size)
        if target:
            counts[target, State(state)] = rows
    parts = {
        target: max(rows / limits.max_rows, size / limits.max_bytes)
        / (limits.share if target else 1.0)
        for target, (rows, size) in sums.items()
    }
    fullest, fullest_of = max((part, target) for target, part in parts.items())
    full = frozenset(target for target, part in parts.items() if part >= 1.0)
    return Usage(*sums[""], counts, fullest, fullest_of, oldest, full)


def fitting(
    sizes: Sequence[int], whole: tuple[int, int], of_target: tuple[int, int], limits: StoreLimits
) -> int:
    """Return how many of these events, from the first on, a person may add: within the target's
    share, and half of the store; the other half is for callbacks. `whole` and `of_target` are the
    rows and bytes in use."""
    for count, size in enumerate(accumulate(sizes), 1):
        for (rows, used), part in ((whole, 0.5), (of_target, limits.share)):
            if rows + count > limits.max_rows * part or used + size > limits.max_bytes * part:
                return count - 1
    return len(sizes)
