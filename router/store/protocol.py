"""The rows of a store, and the methods that every store has.

A store decides nothing: delivery/rules.py decides what may be claimed, written and ended, and each
method here is one atomic step with its guard. Times are seconds since the epoch on the clock that
all processes of a store share (`Store.now`); timeouts are seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from router.model.errors import RouterError
from router.model.event import FIELDS, Attempt, Event, OutboundEvent, Reason
from router.model.secret import Secret

#: A store keeps the first failed attempt of a delivery, and as many of the latest.
LAST = 20

#: The size of an attempt besides its texts, in bytes.
_OVERHEAD = 128


class Tried(NamedTuple):
    """One failed attempt of a delivery."""

    attempt: Attempt
    #: The number of the caller's request that made it, from 1; 0 if the queue made it.
    request: int = 0
    #: The number of the queue's retry, from 1; 0 if a request made it.
    retry: int = 0
    #: Its number among the attempts of its delivery, from 1; 0 before it is kept.
    number: int = 0

    @classmethod
    def of(cls, row: Iterable[Any]) -> Tried:
        """Read a number and COLUMNS."""
        number, at, seconds, request, retry, reason, delivered, status, code, msg, detail = row
        attempt = Attempt(
            Reason(reason), bool(delivered), seconds, status, detail, None, at, code, msg
        )
        return cls(attempt, request, retry, number)

    @property
    def values(self) -> tuple[Any, ...]:
        a = self.attempt
        return (a.at, a.seconds, self.request, self.retry, str(a.reason), a.delivered, a.status,
                a.code, a.msg, a.detail)  # fmt: skip

    @property
    def size(self) -> int:
        """The bytes that count for the limits of the store and of a target's share."""
        texts = (self.attempt.code, self.attempt.msg, self.attempt.detail)
        return _OVERHEAD + sum(len(text.encode()) for text in texts)


#: The columns of a kept attempt, in the order of `Tried.values`.
COLUMNS = ("at", "seconds", "request", "retry", "reason", "delivered", "status", "code", "msg",
           "detail")  # fmt: skip


#: In seconds: how often each of the processes that share a store writes its row; after which
#: silence it counts as gone; and when its row is deleted.
BEAT, GONE, FORGOTTEN = 1.0, 10.0, 600.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error in a process, in the words of its log."""

    #: On the process's own clock.
    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Node:
    """One process of a router, as it describes itself."""

    #: Unique to one run of the process.
    node_id: str
    host: str
    pid: int
    #: The URL of its callback port.
    address: str
    version: str
    #: The hash of the configuration in force.
    config: str
    #: Seconds since it started.
    uptime: float
    #: It accepts callbacks: it is open and not stopping.
    ready: bool
    #: Its metrics, by name.
    figures: Mapping[str, float]
    #: The latest errors, newest first.
    troubles: tuple[Trouble, ...] = ()
    #: Seconds since its last beat, at the time of the query.
    silent: float = 0.0

    @property
    def gone(self) -> bool:
        return self.silent > GONE


class Nodes(Protocol):
    """The processes that share a store. Both methods raise StoreFailed, at the latest when the
    timeout has passed."""

    async def beat(self, node: Node, timeout: float) -> Mapping[str, int]:
        """Write the process's row, and delete rows older than FORGOTTEN. Return the number of
        processes that are not gone, by the hash of their configuration."""

    async def leave(self, node_id: str, timeout: float) -> None:
        """Delete the row of a process that ends."""


#: A look-up returns at most so many events of one body, open ones first.
MAX_FOUND = 32

#: Closing a store waits so many seconds for pending writes.
CLOSE_TIMEOUT = 5.0


class Door(NamedTuple):
    """The address at which other processes of this machine reach the owner of a store's file."""

    #: Its ops port; `""` for none.
    url: str = ""
    #: A token of that port, valid until the router ends: a user who may use the file may use the
    #: router that owns it.
    key: Secret = Secret("")


NO_DOOR: Final = Door()


class StoreFailed(RouterError):
    """The store is unreachable, too slow or broken; the text is one word for logs and metrics.

    The call may still be carried out.
    """

    #: The cause for people, if known; never a secret.
    detail: str = ""

    @property
    def text(self) -> str:
        return f"{self} ({self.detail})" if self.detail else str(self)


#: Advice for some of these words.
ADVICE = {"gone": "its file or lock was deleted or replaced: restart the router"}


class StoreFull(StoreFailed):
    """There is no room; nothing was written and nothing will be."""

    def __init__(self, targets: Collection[str] = ()) -> None:
        super().__init__("full")
        #: The targets that have used up their shares; none if the store as a whole is full.
        self.targets = frozenset(targets)


T = TypeVar("T")


async def result_of(done: asyncio.Future[T], timeout: float) -> T:
    """Wait for the result of a call. After the timeout, cancel it and raise StoreFailed."""
    try:
        async with asyncio.timeout(timeout):
            return await done
    except TimeoutError:
        # The timeout may fire in the very turn of the loop in which the call was done.
        if done.cancelled():
            raise StoreFailed("slow") from None
        return done.result()


class Stage(StrEnum):
    """The state of an event towards its caller."""

    #: Its `000` is still due: a record.
    OPEN = "open"
    #: It has got its `000`.
    CLOSED = "closed"
    #: The caller has given it up, or another request with the same body has got its `000`.
    ENDED = "ended"


class State(StrEnum):
    """The state of a delivery."""

    ACKNOWLEDGED = "acknowledged"
    #: It waits for the caller's retry.
    AWAITING = "awaiting"
    #: The router retries it.
    QUEUED = "queued"
    #: Another event, or a change of routes, has made it unnecessary.
    SUPERSEDED = "superseded"
    #: A dead letter.
    DEAD = "dead"


#: Deliveries that count for a target's share of the store.
UNSETTLED = (State.AWAITING, State.QUEUED, State.DEAD)

#: Deliveries that are still being retried, by EBaaS or by the router.
RETRIED = (State.AWAITING, State.QUEUED)


@dataclass(frozen=True, slots=True)
class Record:
    """The row of an event, without the event itself."""

    event_id: str
    stage: Stage
    #: When the first request arrived.
    first_at: float
    #: The number of requests.
    requests: int
    #: When the last of them was answered, or its caller hung up.
    replied_at: float
    #: When the caller's next request is due.
    due_at: float
    #: A retry may rely on its acknowledgements until then: the record's credit.
    credit_until: float
    #: When the caller gives it up.
    ends_at: float
    #: A retry may not rely on them any more. Once true it stays true.
    credit_revoked: bool = False

    @classmethod
    def of(cls, row: Sequence[Any]) -> Record:
        event_id, stage, *times, revoked = row
        values: list[Any] = [event_id, Stage(stage), *times, bool(revoked)]
        return cls(*values)

    def columns(self) -> dict[str, Any]:
        """Return the columns that a write sets: all but the event's id."""
        return {column: getattr(self, name) for name, column in _RECORD.items()}


_RECORD = {field.name: field.name for field in fields(Record)[1:]} | {"credit_revoked": "spent"}


#: The `recover_at` of a delivery that a person wants sent now.
ASKED: Final = -1.0


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """The row of a delivery; the target's name is its identity within the event."""

    target: str
    state: State
    #: Why its last attempt failed, or why it is dead; `""` while the first is in flight.
    reason: str = ""
    #: When the queue tries it next.
    due_at: float = 0.0
    #: The number of retries that the router has made.
    retries: int = 0
    #: How many attempts have begun.
    attempts: int = 0
    #: Recovery leaves it alone until then: the end of its lease, or the time of its next attempt by
    #: schedule. ASKED: a person wants it sent now.
    recover_at: float = 0.0
    #: An attempt of the queue is in flight, until `recover_at` at the latest.
    is_leased: bool = False
    #: The failed attempt that led to this state, which is kept with the row.
    tried: Tried | None = field(default=None, compare=False)

    @classmethod
    def of(cls, row: Sequence[Any]) -> DeliveryRow:
        target, state, reason, due_at, *numbers, leased = row
        values: list[Any] = [target, State(state), reason, float(due_at), *numbers, bool(leased)]
        return cls(*values)

    def columns(self) -> dict[str, Any]:
        """Return the columns that a write sets."""
        return {name: getattr(self, name) for name in _DELIVERY}

    def attempt_to_keep(self, full: Collection[str]) -> Tried | None:
        """Return the attempt, if there is room: `full` has the targets without any, `""` for the
        whole store. No delivery depends on attempts, so they are the first to be left out."""
        return None if "" in full or self.target in full else self.tried

    def is_being_sent(self, now: float) -> bool:
        """Return whether the queue of a process sends it; the process may have died meanwhile."""
        return self.state in RETRIED and self.is_leased and now < self.recover_at


_DELIVERY = [field.name for field in fields(DeliveryRow)[:7]]


@dataclass(frozen=True, slots=True)
class Kept:
    """The stored rows of one event."""

    record: Record
    rows: tuple[DeliveryRow, ...]

    def without_late_credit(self, late: Collection[str]) -> Kept:
        """Revoke its credit if it is among the events that were added too late, by their ids."""
        if self.record.event_id not in late:
            return self
        return replace(self, record=replace(self.record, credit_revoked=True))


@dataclass(frozen=True, slots=True)
class Settlement:
    """The changes that a request makes to the record that it has claimed."""

    #: Its new state.
    record: Record
    #: The deliveries that change.
    rows: Sequence[DeliveryRow]
    #: The body's SHA-256.
    digest: bytes
    #: The targets that have acknowledged.
    reached: Collection[str]
    at: float


class Early(NamedTuple):
    """A lease of deliveries before their time."""

    #: If the caller's next request is due within these times, its deliveries are left to it.
    request_window: tuple[float, float]
    #: Only those that a person has asked for.
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that a process has leased, for one attempt."""

    event_id: str
    #: As it was before.
    row: DeliveryRow
    letter: OutboundEvent
    lease: str
    #: When the event's first request arrived.
    first_at: float
    #: When the caller's next request is due; 0 if none is.
    request_due_at: float
    #: A person has queued it again.
    replayed: bool

    @classmethod
    def of(cls, row: Sequence[Any], letter: OutboundEvent, lease: str) -> Due:
        """Read the first ten columns of a leased delivery."""
        event_id, target, state, reason, due_at, retries, attempts, first_at, request_due_at = row[
            :9
        ]
        before = DeliveryRow(target, State(state), reason, float(due_at), retries, attempts)
        return cls(event_id, before, letter, lease, first_at, request_due_at, bool(row[9]))


@dataclass(frozen=True, slots=True)
class Ended:
    """A record that has ended."""

    event_id: str
    event_key: str
    requests: int
    #: The reason of the last attempt of each of its dead letters, by target.
    dead: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The limits of a store's size, and how long it keeps settled events."""

    #: Of events. Each counts 1 KiB at least.
    max_bytes: int
    #: The part that the unsettled deliveries of one target may use.
    share: float = 0.25
    #: A settled event is kept for so many seconds.
    keep_settled: float = 3600.0
    #: A dead letter is kept for so many seconds.
    keep_dead: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Usage:
    """The contents of a store in numbers."""

    #: Events, settled ones included.
    rows: int
    bytes: int
    #: (target, state) to its number of unsettled deliveries.
    deliveries: Mapping[tuple[str, State], int]
    #: The fullest part of the limits, a target's share included: 1.0 is full.
    fullest: float
    #: The target whose share that is; `""` for the store as a whole.
    fullest_of: str = ""
    #: When the oldest event arrived that still awaits a retry or is queued; None if there is none.
    oldest: float | None = None
    #: The targets whose shares are full, and `""` if the store as a whole is.
    full: frozenset[str] = frozenset()
    #: By target, when the caller gives up the first event that awaits a retry.
    first_ends: Mapping[str, float] = field(default_factory=dict)
    #: When the first queued delivery is due, by target and number of retries.
    first_due: Mapping[tuple[str, int], float] = field(default_factory=dict)

    def waiting(self) -> dict[str, int]:
        """Return by target how many deliveries are still being retried, if there are any."""
        waiting = Counter[str]()
        for (target, state), count in self.deliveries.items():
            if state in RETRIED and count:
                waiting[target] += count
        return dict(waiting)


#: The size of an event besides its body and key, with its rows and index entries, in bytes.
OVERHEAD = 1024


def event_size(event: Event) -> int:
    """Return the bytes that count for the limits."""
    return OVERHEAD + len(event.body) + len(event.event_key)


def event_columns(record: Record, letter: OutboundEvent) -> dict[str, Any]:
    """Return the columns that the insertion of an event sets, but its body."""
    return {
        "event_id": record.event_id,
        **record.columns(),
        "digest": letter.digest,
        "size": event_size(letter.event),
        "request_id": letter.request_id,
        "traceparent": letter.traceparent,
        "tracestate": letter.tracestate,
        "hops": letter.hops,
        **{name: getattr(letter.event, name) for name in FIELDS},
    }


def letter_of(columns: Sequence[Any], text: Callable[[str], str] = str) -> OutboundEvent:
    """Read the columns of an event from its digest to its body; `text` reads each of its fields."""
    digest, request_id, traceparent, tracestate, hops, *fields, body = columns
    values: list[Any] = [*map(text, fields), body]
    event = Event(*values)
    return OutboundEvent(event, digest, request_id, traceparent, tracestate, hops=hops)


def usage_of(
    counted: Iterable[tuple[str, str, int, int]], oldest: float | None, limits: StoreLimits
) -> Usage:
    """Sum up rows of target, state, number and bytes: events under `""` and `""`, unsettled
    deliveries under their targets and states."""
    counts: dict[tuple[str, State], int] = {}
    events = 0
    #: The bytes of a target, `""` for all events.
    sizes: dict[str, int] = {"": 0}
    for target, state, rows, size in counted:
        sizes[target] = sizes.get(target, 0) + size
        if target:
            counts[target, State(state)] = rows
        else:
            events += rows
    parts = {
        target: size / limits.max_bytes / (limits.share if target else 1.0)
        for target, size in sizes.items()
    }
    fullest, fullest_of = max((part, target) for target, part in parts.items())
    full = frozenset(target for target, part in parts.items() if part >= 1.0)
    return Usage(events, sizes[""], counts, fullest, fullest_of, oldest, full)


@dataclass(frozen=True, slots=True)
class Pause:
    """The last pause of a target. Its optional deliveries wait, its required ones fail at once."""

    target: str
    since: float
    #: Its end, which resuming the target moves forward.
    until: float
    because: str
    who: str
    #: The person who has resumed the target; `""` for nobody.
    resumed_by: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """The last notification about a subject, from any process that shares the store."""

    what: str
    at: float


class Store(Protocol):
    """The methods of every store.

    Every method that takes a timeout raises StoreFailed, at the latest when that has passed, never
    blocks the loop for longer than a point look-up, and is atomic: a crash leaves all of it or
    nothing. When it has returned, its changes are durable (they survive kill -9 and a power cut),
    and every later call of every process sees them. Concurrent calls take effect in any order.

    Each row that is written keeps its failed attempt, unless its target's share or the store was
    full at the last call of `usage`.
    """

    #: False for a store that remembers nothing: `find` finds nothing, and nothing is ever written.
    remembers: bool

    #: The processes that share it; None if only one process can use it.
    nodes: Nodes | None

    def now(self) -> float:
        """Return the time on the clock that all processes of this store share."""

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        """Return the events of a body, open ones first, at most a few dozen. The cost does not grow
        with the store."""

    async def add(
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        """Insert an event with its deliveries. Raises StoreFull if there is no room.

        If a write misses its timeout and commits all the same, it never has credit.
        """

    async def settle(self, settlement: Settlement, timeout: float) -> bool:
        """Write the outcome of a request that has claimed the record. Return False, and write
        nothing, if the record is not open any more. Raises StoreFull.

        An acknowledged row stays acknowledged. Closing revokes the credit of all other open records
        of the body, and marks their deliveries to the targets reached as acknowledged later.
        """

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        *,
        by: str = "",
    ) -> None:
        """Write that a request which has claimed none of these records has got its `000`.

        Of the open records, open deliveries to the targets reached are superseded. Dead letters to
        them are marked as acknowledged later. The credit of all is revoked, and a record ends if it
        awaits nothing any more. `by` is the id of the request's event.
        """

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        """Mark a delivery acknowledged, in any state. Return False if there is none."""

    async def missed(
        self, event_id: str, target: str, tried: Tried, ends_by: float, timeout: float
    ) -> None:
        """Keep an attempt that failed after its row was written. The row gets its reason if it had
        none yet. If recovery has left the row alone until `ends_by` because of this attempt, that
        is over. Without such a delivery, do nothing."""

    async def revoke_all_credit(self, timeout: float) -> None:
        """Revoke the credit of every record, at a cost that does not grow with the store."""

    async def queue(self, timeout: float) -> Mapping[str, float]:
        """Return when the first queued delivery of each target is due."""

    async def lease(
        self,
        target: str,
        now: float,
        until: float,
        limit: int,
        timeout: float,
        early: Early | None = None,
    ) -> tuple[Due, ...]:
        """Lease up to `limit` due deliveries of a target, the earliest due first. They are due
        again at `until`.

        With `early`, lease those that wait for the queue or for the caller's next request, due or
        not: first those that a person has asked for, then in the order of recording."""

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        """Write the outcome of a leased delivery. Return False if the lease has ended."""

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        """End up to `limit` open records whose time has passed: deliveries that await a retry
        become dead letters."""

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        """Delete up to `limit` expired events, and return their number."""

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        """Return the last pause of each target; one that is over is kept for a while."""

    async def notice(self, name: str, timeout: float) -> Notice | None:
        """Return the last notice about a subject, None if there is none or it was long ago."""

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        """Replace the notice `before`. Return False, and write nothing, if another process has
        replaced it already. A second call with the same notice returns the same."""

    async def usage(self, timeout: float) -> Usage:
        """Count the contents; the cost does not grow with the number of rows."""

    async def close(self) -> None:
        """Finish pending writes, for a few seconds, and close."""
