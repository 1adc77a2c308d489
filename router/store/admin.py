"""People's work with a store: find, replay, discard and restore deliveries, pause targets; and the
filters that commands and the API share.

The functions here raise ValueError with a sentence for people, and print nothing.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby, starmap
from operator import itemgetter
from typing import Any, NamedTuple

from router.contract.replies import harmless
from router.contract.schedule import parse_time
from router.model.event import SUCCESS, OutboundEvent
from router.routing.index import Glob
from router.store.protocol import (
    ASKED,
    COLUMNS,
    RETRIED,
    UNSETTLED,
    DeliveryRow,
    Node,
    Pause,
    Record,
    State,
    Tried,
    letter_of,
)
from router.telemetry.log.lines import stamp

#: The longest pause, in seconds. A longer one is `paused: true` in routes.yaml.
MAX_PAUSE = 30 * 86400.0

#: The lengths of a reason and of a name, in characters.
MAX_BECAUSE, MAX_WHO = 200, 100


async def pause(admin: Admin, target: str, until: str, because: str, who: str) -> Pause:
    """Pause a target until a time that `parse_time` reads, in place of its current pause. Every
    process that shares the store obeys it within a second."""
    now = admin.now()
    try:
        end = parse_time(until, now, ahead=True)
    except ValueError:
        raise ValueError(
            f"{until!r} is neither a time from now (like 10m, 2h, 3d) nor one like "
            "2026-11-26T13:00:00Z"
        ) from None
    if end <= now:
        raise ValueError(f"{until!r} is over already")
    if end > now + MAX_PAUSE:
        raise ValueError(
            f"{until!r} is more than 30 days away; for no end, set `paused: true` in routes.yaml"
        )
    reason = harmless(because, MAX_BECAUSE)
    if not reason or len(because) > MAX_BECAUSE:
        raise ValueError(f"the reason has to have 1 to {MAX_BECAUSE} characters")
    new = Pause(target, now, end, reason, harmless(who, MAX_WHO))
    await admin.put_pause(new)
    return new


async def resume(admin: Admin, target: str, who: str) -> Pause | None:
    """End a target's pause and return it, None for none. `paused` in routes.yaml stays."""
    return await admin.end_pause(target, harmless(who, MAX_WHO))


async def paused(admin: Admin) -> tuple[Pause, ...]:
    """Return the current pauses, by target."""
    now = admin.now()
    return tuple(sorted((p for p in await admin.pauses() if p.until > now), key=lambda p: p.target))


#: The reason of a delivery that a person has discarded. Its state is `superseded`: it is settled
#: and raises no alarm, but an acknowledgement or a retry that needs the target still changes it.
DISCARDED = "discarded"

#: The most deliveries that one commit changes, so that the router never waits for long.
STEP = 200


class Verb(StrEnum):
    """An action of a person on deliveries."""

    #: Queue a dead letter again, with all retries of the queue.
    REPLAY = "replay"
    #: Settle a delivery without delivering it.
    DISCARD = "discard"
    #: Undo a discard: the delivery gets its former state.
    RESTORE = "restore"
    #: Send now what waits; the delivery keeps its schedule.
    RETRY = "retry"

    @property
    def states(self) -> tuple[State, ...]:
        """The states of deliveries that it applies to."""
        return _STATES[self]

    def fits(self, row: DeliveryRow) -> bool:
        discarded = self is not Verb.RESTORE or row.reason == DISCARDED
        return row.state in self.states and discarded

    def acted(self, entry: Entry, now: float) -> DeliveryRow:
        """Return the new state of a delivery. The store makes it a dead letter if it would be
        awaited from a caller that has given up."""
        row = replace(entry.row, recover_at=0.0)
        if self is Verb.REPLAY:
            return replace(row, state=State.QUEUED, due_at=now, retries=0)
        if self is Verb.RETRY:
            return replace(row, recover_at=ASKED)
        if self is Verb.DISCARD:
            return replace(row, state=State.SUPERSEDED, reason=DISCARDED)
        # If 0.2.0 has discarded it, this is its state before an earlier action.
        state, reason = entry.before or (State.DEAD, "")
        if state not in UNSETTLED:
            state, reason = State.DEAD, ""
        return replace(row, state=state, reason=reason)


_STATES = {
    Verb.REPLAY: (State.DEAD,),
    Verb.DISCARD: UNSETTLED,
    Verb.RESTORE: (State.SUPERSEDED,),
    Verb.RETRY: RETRIED,
}


class Sort(StrEnum):
    """The order of deliveries."""

    #: The last recorded ones first.
    NEWEST = "newest"
    #: In the order of recording.
    OLDEST = "oldest"
    #: By target, the newest first.
    TARGET = "target"


class Later(StrEnum):
    """The selection of deliveries whose body was acknowledged later, as another event's."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions for deliveries, which must all hold; an empty one always holds."""

    targets: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    event_ids: tuple[str, ...] = ()
    #: Of discarded deliveries the reasons before that.
    reasons: tuple[str, ...] = ()
    #: They were discarded by a person.
    discarded: bool = False
    #: Any of them matches the event's key.
    keys: tuple[Glob, ...] = ()
    #: The event's first request arrived at this time or later.
    since: float | None = None
    #: It arrived before this time.
    until: float | None = None
    acknowledged_later: Later = Later.INCLUDE
    #: For any of these pairs, the word is the id of the event, its request or its trace, begins the
    #: SHA-256 of its body, or is in its body in quotes; or the pattern matches its key.
    known_by: tuple[tuple[str, Glob], ...] = ()
    #: One of the event's deliveries has changed at this time or later.
    changed_since: float | None = None
    #: One of its failed attempts, or the reply to its caller, had one of these codes or statuses.
    codes: tuple[str, ...] = ()
    #: Its `000` is still due, or an attempt has failed.
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The deliveries of a target in a state, with the same reason."""

    target: str
    state: State
    reason: str
    deliveries: int
    #: The number of them whose body was acknowledged later, as another event's.
    acknowledged_later: int
    #: When the first requests of the oldest and the newest event arrived.
    oldest_at: float
    newest_at: float
    #: The event that was recorded last, and the answer to its last failed attempt, as an example.
    event_id: str
    event_key: str
    answer: str


class Outcome(NamedTuple):
    """The results of a replay or a retry so far, by the number of its deliveries."""

    acknowledged: int
    #: Dead letters, and those that are retried after a failure.
    failed: int
    #: Those whose first attempt has not ended.
    left: int


class ReplayPlace(NamedTuple):
    """The progress of a replay from the archive: its events are queued in this order."""

    #: When the event came.
    at: float
    event_id: str

    def __str__(self) -> str:
        return f"up to {stamp(self.at)} {self.event_id}"


@dataclass(frozen=True, slots=True)
class Action:
    """A command of a person, with all its steps."""

    action_id: str
    verb: Verb
    who: str
    #: The selection in the person's own words.
    what: str
    #: When it began.
    at: float
    #: The number of deliveries that it has changed.
    deliveries: int = 0
    #: Of a replay from the archive: when its first event may have come, None for any time.
    since: float | None = None
    #: The last event that such a replay has queued; None before the first and after its end.
    place: ReplayPlace | None = None

    @property
    def text(self) -> str:
        """The selection, and how far a replay has come."""
        return f"{self.what} {self.place}" if self.place else self.what


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery, at the time of the query."""

    #: The number of its event, in the order of recording.
    seq: int
    event_id: str
    event_key: str
    #: When the event's first request arrived.
    first_at: float
    row: DeliveryRow
    #: When the row was last written.
    changed_at: float
    #: When another event with the same body was acknowledged by this target.
    acknowledged_later_at: float | None
    #: The last action on it, if it is still kept.
    action: Action | None
    #: State and reason before that action; None if there was none.
    before: tuple[State, str] | None = None
    #: The event that superseded it or was acknowledged later; `""` for none.
    later_event: str = ""
    #: The receiver's own words about the last failed attempt, which are harmless, or else the
    #: router's, after its HTTP status unless that is 2xx; `""` if none is kept.
    answer: str = ""

    @property
    def mark(self) -> tuple[int, str, float]:
        """Tell the delivery, as it is now, from every other."""
        return self.seq, self.row.target, self.changed_at


#: A row may become visible so many seconds after the time that it carries: the store may have been
#: slow to commit it.
SLOWEST_COMMIT = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The deliveries that a preview has shown."""

    #: The time of the preview.
    at: float
    #: The marks of deliveries that had changed within SLOWEST_COMMIT. Others with such a time were
    #: committed after the preview.
    recent: frozenset[tuple[int, str, float]]

    @classmethod
    async def of(cls, admin: Admin, selection: Selection, at: float) -> Seen:
        """Read them before they are counted: none is acted on that was not counted."""
        return cls(at, await admin.marks(selection, at - SLOWEST_COMMIT))

    def has(self, entry: Entry) -> bool:
        """Return whether it was shown, and has not changed since."""
        if (entry.acknowledged_later_at or 0.0) >= self.at:
            return False
        return entry.changed_at < self.at - SLOWEST_COMMIT or entry.mark in self.recent


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that is kept of an event."""

    record: Record
    letter: OutboundEvent
    entries: tuple[Entry, ...]
    #: By target, in order of time.
    attempts: Mapping[str, tuple[Tried, ...]]


@dataclass(frozen=True, slots=True)
class Resend:
    """An event to be delivered to a target again."""

    #: The record to add if the store does not have the event.
    record: Record
    letter: OutboundEvent
    #: A delivery that the store has stays as it is, settled or not.
    once: bool = False

    @property
    def place(self) -> ReplayPlace:
        return ReplayPlace(self.record.first_at, self.record.event_id)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an action."""

    #: The number of deliveries selected, or of events taken: there was no room for the next one.
    taken: int
    #: The number of them that changed.
    changed: int


_LATER = {
    Later.INCLUDE: "",
    Later.EXCLUDE: "d.acknowledged_later_at IS NULL",
    Later.ONLY: "d.acknowledged_later_at IS NOT NULL",
}

#: The last failed attempt of a delivery that is kept, as `t`, and its columns for `_answer`.
_TRIED = """LEFT JOIN {schema}attempts t ON t.seq = d.seq AND t.target = d.target AND t.number = (
    SELECT max(number) FROM {schema}attempts WHERE seq = d.seq AND target = d.target
)"""
_ANSWER = "t.status, t.code, t.msg, t.detail"

_ENTRIES = f"""
SELECT d.seq, e.event_id, {{key}}, e.first_at, d.changed_at, d.acknowledged_later_at,
    d.target, d.state, d.reason, d.due_at, d.retries, d.attempts, d.recover_at, d.lease <> '',
    d.was_state, d.was_reason, d.later_event, {_ANSWER},
    {{actions}}
FROM {{tables}} LEFT JOIN {{schema}}actions a ON a.seq = d.action
{_TRIED}
WHERE {{place}} AND {{condition}}
ORDER BY {{order}} LIMIT {{size}}
"""  # noqa: S608 - our own words

#: The order of a page, and the condition for what comes after a number and a target.
_ORDERS = {
    Sort.NEWEST: ("d.seq DESC, d.target DESC", "(d.seq, d.target) < ({seq}, {target})"),
    Sort.OLDEST: ("d.seq, d.target", "(d.seq, d.target) > ({seq}, {target})"),
    Sort.TARGET: (
        "d.target, d.seq DESC",
        "(d.target > {target} OR d.target = {target} AND d.seq < {seq})",
    ),
}

#: The marks of deliveries that have changed since a time.
_MARKS = """
SELECT d.seq, d.target, d.changed_at FROM {tables}
WHERE d.changed_at >= {since} AND {condition}
"""

#: Each group with the delivery that was recorded last.
_GROUPS = f"""
WITH g AS (
    SELECT d.target, d.state, d.reason, count(*) AS deliveries,
        count(d.acknowledged_later_at) AS later, min(e.first_at) AS oldest_at,
        max(e.first_at) AS newest_at, max(d.seq) AS last
    FROM {{tables}} WHERE {{condition}} GROUP BY d.target, d.state, d.reason
)
SELECT g.target, g.state, g.reason, g.deliveries, g.later, g.oldest_at, g.newest_at,
    e.event_id, {{key}}, {_ANSWER}
FROM g CROSS JOIN {{tables}} {_TRIED} WHERE d.seq = g.last AND d.target = g.target
"""  # noqa: S608 - our own words

#: The number of deliveries of actions by their results. A person's retry costs none of a
#: delivery's own retries.
_OUTCOME = """
SELECT CASE WHEN d.state = 'acknowledged' THEN 'acknowledged'
    WHEN d.state IN ('awaiting', 'queued') AND CASE a.verb
        WHEN 'retry' THEN d.recover_at < 0 OR d.lease <> '' ELSE d.retries = 0 END THEN 'left'
    ELSE 'failed' END, count(*)
FROM {schema}actions a JOIN {schema}deliveries d ON d.action = a.seq
WHERE a.action_id IN ({action_ids}) AND d.state <> 'superseded' AND {condition} GROUP BY 1
"""

_EVENT = """
SELECT e.event_id, e.stage, e.first_at, e.requests, e.replied_at, e.due_at, e.credit_until,
    e.ends_at, e.spent OR e.seq <= (SELECT spent_up_to FROM {schema}credit),
    e.digest, l.request_id, l.traceparent, l.tracestate, l.hops,
    l.event_source, l.event_topic, l.event_type, l.event_status, l.event_key, {body}
FROM {event} WHERE e.event_id = {event_id}
"""

_PAUSES = "SELECT target, since, until, because, who, resumed_by FROM {schema}pauses"

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

    def all(self, values: Sequence[Any]) -> str:
        """Add several, and return their marks."""
        return ", ".join(map(self.put, values))


class Admin(ABC):
    """A store as people use it, beside running routers, whose requests it never delays.

    Every method raises StoreFailed, does not block the loop, and stops when it is cancelled.
    Queries may take seconds in a store of millions. Writes are atomic and durable, as a Store's.
    """

    #: The prefix of a table's name.
    _schema = ""
    #: Deliveries as `d`, events as `e`, and the table with the key: of pages, and of counts.
    _page_tables: str
    _count_tables: str
    #: The column with the event's key.
    _key: str
    #: The tables of an event, as `e` and `l`, and the column with its body.
    _event_tables: str
    _body: str
    #: Reads a text of an event's fields.
    _text: Callable[[str], str] = staticmethod(str)

    def __init__(self, now: Callable[[], float]) -> None:
        #: Returns the time on the clock that all processes of this store share.
        self.now = now

    async def groups(self, selection: Selection) -> tuple[Group, ...]:
        """Group deliveries by target, state and reason."""
        values = Values()
        rows = await self._ask(
            _GROUPS,
            values,
            key=self._key,
            tables=self._count_tables,
            condition=self._condition(selection, values),
        )
        fields = (
            (row[0], State(row[1]), *row[2:8], self._text(row[8]), _answer(*row[9:]))
            for row in rows
        )
        return tuple(starmap(Group, fields))

    async def marks(self, selection: Selection, since: float) -> frozenset[tuple[int, str, float]]:
        """Return the marks of deliveries that have changed since then: a discard changes as many as
        there are, so they are not read as entries."""
        values = Values()
        rows = await self._ask(
            _MARKS,
            values,
            tables=self._count_tables,
            since=values.put(since),
            condition=self._condition(selection, values),
        )
        return await asyncio.to_thread(
            lambda: frozenset((seq, target, at) for seq, target, at in rows)
        )

    async def pages(
        self,
        selection: Selection,
        size: int,
        after: tuple[int, str] | None = None,
        sort: Sort = Sort.OLDEST,
    ) -> AsyncIterator[tuple[Entry, ...]]:
        """Yield the deliveries in pages of up to `size`, behind the number and target `after`. Each
        page is read on demand, and no delivery comes twice, whatever changes meanwhile."""
        while page := await self._page(selection, after, size, sort):
            yield page
            after = (page[-1].seq, page[-1].row.target)

    async def dossier(self, event_id: str) -> Dossier | None:
        """Return everything that is kept of an event, None if there is no such event."""
        tables = {"event": self._event_tables, "body": self._body, "event_id": "$1"}
        rows = await self._ask(_EVENT, Values([event_id]), **tables)
        if not rows:
            return None
        entries = await self._page(Selection(event_ids=(event_id,)), None, sys.maxsize)
        tried = await self._ask(_ATTEMPTS, Values([event_id]), event_id="$1")
        by_target = groupby(tried, key=itemgetter(0))  # the rows are in order
        attempts = {of: tuple(Tried.of(row[1:]) for row in group) for of, group in by_target}
        letter = letter_of(rows[0][9:], self._text)
        return Dossier(Record.of(rows[0][:9]), letter, entries, attempts)

    @abstractmethod
    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        """Apply an action to up to STEP deliveries, in one commit with the action itself, and
        return how many changed. A delivery that has changed since the query stays as it is.

        Replay: `queued`, due now, no retry made. Discard: `superseded`, with the reason DISCARDED.
        Restore: its state before the discard, but dead if its record is not open any more.
        """

    @abstractmethod
    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Step:
        """Queue events of an action for a target, in order, due now, up to STEP of them, as far as
        its share of the store and half of the whole have room; in one commit with the action
        itself, whose place is then the last one taken. Without events it has no place any more.

        A delivery stays as it is if it is still being retried (RETRIED), if this action has queued
        it before, or if its event is queued `once`. The state of the event towards its caller does
        not matter.
        """

    async def actions(self, limit: int) -> tuple[Action, ...]:
        """Return the last actions, newest first. They are kept for as long as dead letters."""
        rows = await self._ask(_ACTIONS, Values([limit]), actions=_ACTION, size="$1")
        return tuple(map(_action, rows))

    async def outcome(
        self, action_ids: Sequence[str], targets: tuple[str, ...] | None = None
    ) -> Outcome:
        """Count the deliveries to these targets, or to any, whose last action is one of these."""
        values = Values()
        marks = {
            "action_ids": values.all(action_ids),
            "condition": self._condition(Selection(targets=targets or ()), values),
        }
        counts = dict(await self._ask(_OUTCOME, values, **marks))
        return Outcome(*(counts.get(name, 0) for name in Outcome._fields))

    async def pauses(self) -> tuple[Pause, ...]:
        """Return the last pause of each target; one that is over is kept for a while."""
        return tuple(Pause(*row) for row in await self._ask(_PAUSES, Values()))

    @abstractmethod
    async def put_pause(self, pause: Pause) -> None:
        """Write the target's pause, in place of any other."""

    @abstractmethod
    async def end_pause(self, target: str, who: str) -> Pause | None:
        """End the target's pause now, and return it; None, and nothing written, without one."""

    async def nodes(self) -> tuple[Node, ...] | None:
        """Return the processes that share the store; None if only one can."""
        return None

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def _read(self, sql: str, values: Values) -> Sequence[Any]:
        """Return the rows of a statement."""

    @abstractmethod
    def _fits(self, pattern: Glob, values: Values) -> str:
        """Return a condition: the pattern matches the key."""

    @abstractmethod
    def _known(self, word: str) -> str:
        """Return a condition: the event is known by a word."""

    async def _ask(self, sql: str, values: Values, **parts: str) -> Sequence[Any]:
        return await self._read(sql.format(schema=self._schema, **parts), values)

    async def _page(
        self,
        selection: Selection,
        after: tuple[int, str] | None,
        size: int,
        sort: Sort = Sort.OLDEST,
    ) -> tuple[Entry, ...]:
        values = Values()
        order, place = _ORDERS[sort]
        if after is None:
            place = "true"
        else:
            place = place.format(seq=values.put(after[0]), target=values.put(after[1]))
        rows = await self._ask(
            _ENTRIES,
            values,
            key=self._key,
            actions=_ACTION,
            tables=self._page_tables,
            place=place,
            order=order,
            condition=self._condition(selection, values),
            size=values.put(size),
        )
        return tuple(map(self._entry, rows))

    def _entry(self, row: Sequence[Any]) -> Entry:
        seq, event_id, event_key, first_at, changed_at, later = row[:6]
        was_state, was_reason, later_event = row[14:17]
        return Entry(
            seq,
            event_id,
            self._text(event_key),
            first_at,
            DeliveryRow.of(row[6:14]),
            changed_at,
            acknowledged_later_at=later,
            action=None if row[21] is None else _action(row[21:]),
            before=None if was_state is None else (State(was_state), was_reason),
            later_event=later_event or "",
            answer=_answer(*row[17:21]),
        )

    def _any_fits(self, patterns: Iterable[Glob], values: Values) -> str:
        return f"({' OR '.join(self._fits(pattern, values) for pattern in patterns)})"

    def _condition(self, selection: Selection, values: Values) -> str:
        """Join the conditions, the most expensive ones last."""
        terms = ["d.seq > 0"]
        if selection.event_ids:
            ids = values.all(selection.event_ids)
            terms.append(
                f"d.seq IN (SELECT seq FROM {self._schema}events WHERE event_id IN ({ids}))"  # noqa: S608
            )
        columns = {
            "target": selection.targets,
            "state": selection.states,
            "was_reason" if selection.discarded else "reason": selection.reasons,
        }
        for column, allowed in columns.items():
            if allowed:
                terms.append(f"d.{column} IN ({values.all(allowed)})")
        if selection.discarded:
            terms.append(f"d.reason = '{DISCARDED}'")
        if selection.since is not None:
            terms.append(f"e.first_at >= {values.put(selection.since)}")
        if selection.until is not None:
            terms.append(f"e.first_at < {values.put(selection.until)}")
        if later := _LATER[selection.acknowledged_later]:
            terms.append(later)
        if selection.changed_since is not None:
            since = values.put(selection.changed_since)
            terms.append(_EXISTS.format(f"{self._schema}deliveries", f"x.changed_at >= {since}"))
        if selection.failed:
            failed = _EXISTS.format(f"{self._schema}deliveries", _FAILED)
            tried = _EXISTS.format(f"{self._schema}attempts", "true")
            terms.append(f"(e.stage <> 'closed' OR {failed} OR {tried})")
        if selection.codes:
            terms.append(self._has_code(selection.codes, values))
        if selection.keys:
            terms.append(self._any_fits(selection.keys, values))
        if selection.known_by:
            words = [self._known(values.put(word)) for word, _ in selection.known_by]
            words.append(self._any_fits([keys for _, keys in selection.known_by], values))
            terms.append(f"({' OR '.join(words)})")
        return " AND ".join(terms)

    def _has_code(self, codes: tuple[str, ...], values: Values) -> str:
        marks = values.all(codes)
        answer = f"x.code IN ({marks}) OR CAST(x.status AS text) IN ({marks})"
        # The last reply for a record that is not closed was a failure.
        reply = f"CASE e.stage WHEN 'closed' THEN '{SUCCESS}' ELSE '500' END IN ({marks})"
        return f"({reply} OR {_EXISTS.format(f'{self._schema}attempts', answer)})"


def _answer(status: int | None, code: str | None, msg: str | None, detail: str | None) -> str:
    """Join the texts of an attempt, which are None if none is kept."""
    is_odd = status is not None and not 200 <= status < 300
    words = ": ".join(filter(None, (f"HTTP {status}" if is_odd else "", code, msg)))
    return words or detail or ""


def _action(row: Sequence[Any]) -> Action:
    action_id, verb, who, what, at, deliveries, since, place_at, place_event = row
    place = None if place_at is None else ReplayPlace(place_at, place_event)
    return Action(action_id, Verb(verb), who, what, at, deliveries, since, place)


async def carry_out(
    admin: Admin, action: Action, selection: Selection, seen: Seen
) -> AsyncGenerator[Step, None]:
    """Apply an action step by step to the selected deliveries of a preview that have not changed.

    Half of the time is left to the router: without pauses, its commits would find the store locked
    again and again.
    """
    async for page in admin.pages(selection, STEP):
        began = time.monotonic()
        entries = [entry for entry in page if seen.has(entry)]
        changed = await admin.act(action, entries) if entries else 0
        yield Step(len(entries), changed)
        await asyncio.sleep(time.monotonic() - began)


#: By name: one value, or several of which any may match. Time spans are in seconds. A filter that
#: was not given is None or missing.
Filters = Mapping[str, Any]

FILTERS = ("target", "state", "reason", "match", "event", "older_than", "newer_than",
           "acknowledged_later")  # fmt: skip


def selection_of(filters: Filters, now: float) -> Selection:
    """Return the selection; without a state, of deliveries that are not settled."""
    older, newer = filters.get("older_than"), filters.get("newer_than")
    return Selection(
        targets=tuple(filters.get("target") or ()),
        states=tuple(map(State, filters.get("state") or UNSETTLED)),
        event_ids=tuple(filters.get("event") or ()),
        reasons=tuple(filters.get("reason") or ()),
        keys=tuple(filters.get("match") or ()),
        since=None if newer is None else now - newer,
        until=None if older is None else now - older,
        acknowledged_later=Later(filters.get("acknowledged_later") or Later.INCLUDE),
    )


def acted_on(verb: Verb, filters: Filters, now: float) -> Selection:
    """Return the selection for an action: by default dead letters, or all that a retry or a restore
    applies to, as they are now. A dead letter that was acknowledged later is not replayed by
    default. Discarded ones have their reasons from before the discard, too. Raises ValueError for a
    wrong state."""
    states = tuple(map(State, filters.get("state") or ()))
    check_states(verb, states)
    selection = selection_of(filters, now)
    later = Later.EXCLUDE if verb is Verb.REPLAY else Later.INCLUDE
    return replace(
        selection,
        states=states or (verb.states if verb in (Verb.RESTORE, Verb.RETRY) else (State.DEAD,)),
        reasons=() if DISCARDED in selection.reasons else selection.reasons,
        discarded=verb is Verb.RESTORE,
        until=now if selection.until is None else selection.until,
        acknowledged_later=Later(filters.get("acknowledged_later") or later),
    )


def check_states(verb: Verb, states: Sequence[State]) -> None:
    """Raises ValueError for a state that the action does not apply to."""
    for state in states:
        if state not in verb.states:
            why = "is settled already"
            if verb is Verb.RESTORE:
                why = "was not discarded"
            elif state in RETRIED:
                why = "is retried anyway, and `deliveries retry` sends it now"
            elif state is State.DEAD and verb is Verb.RETRY:
                why = "is not retried any more, and `deliveries replay` queues it again"
            raise ValueError(f"a delivery that is {state} {why}; {verb} does not apply")


def filter_texts(filters: Filters) -> Iterator[tuple[str, str]]:
    """Yield each name with each of its values, as people type them."""
    for name in FILTERS:
        given = filters.get(name)
        for value in given if isinstance(given, (list, tuple)) else (given,):
            if value is not None:
                yield name, _text(value)


def filter_words(filters: Filters) -> str:
    """Return the filters as options of a command line."""
    pairs = ((f"--{name.replace('_', '-')}", text) for name, text in filter_texts(filters))
    return shlex.join(word for pair in pairs for word in pair)


def _text(given: object) -> str:
    if isinstance(given, Glob):
        return given.pattern
    if isinstance(given, float):
        return f"{given:.9f}".rstrip("0").rstrip(".") + "s"
    return str(given)
