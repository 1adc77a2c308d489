"""The durable rows of what is not wholly settled, and what a store promises about them.

A store decides nothing: what may be claimed, written and ended is decided in delivery/rules.py, and
every method here is one atomic step with its guard in it. Times are seconds since the epoch on the
clock that all processes of a store share (`Store.now`); timeouts are seconds.

Of failed attempts a store keeps the first and the last few. Processes that share a store write
themselves there every second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from router.model.errors import RouterError
from router.model.event import Attempt, OutboundEvent, Reason
from router.model.secret import Secret

#: How many of the last ones are kept, besides the first.
LAST = 20

#: What a kept attempt takes up besides its texts, in bytes.
_OVERHEAD = 128


class Tried(NamedTuple):
    """One failed attempt of a delivery."""

    attempt: Attempt
    #: Which request of the caller made it, from 1; 0 where the queue did.
    request: int = 0
    #: Which retry of the queue it was, from 1; 0 where a request made it.
    retry: int = 0
    #: Its number among all of the delivery, from 1; 0 before it is kept.
    number: int = 0


#: The columns of a kept attempt, in the order of `values` and of `tried`.
COLUMNS = ("at", "seconds", "request", "retry", "reason", "delivered", "status", "code", "msg",
           "detail")  # fmt: skip


def values(of: Tried) -> tuple[Any, ...]:
    a = of.attempt
    return (a.at, a.seconds, of.request, of.retry, str(a.reason), a.delivered, a.status, a.code,
            a.msg, a.detail)  # fmt: skip


def tried(row: Iterable[Any]) -> Tried:
    """From its number and its columns."""
    number, at, seconds, request, retry, reason, delivered, status, code, msg, detail = row
    attempt = Attempt(Reason(reason), bool(delivered), seconds, status, detail, None, at, code, msg)
    return Tried(attempt, request, retry, number)


def said_by(code: str, msg: str, detail: str) -> str:
    """The receiver's own words, which are harmless; where there are none, the router's."""
    return ": ".join(filter(None, (code, msg))) or detail


def size_of(of: Tried) -> int:
    """In bytes, as it counts for the limits: of the store, and of its target's share."""
    texts = (of.attempt.code, of.attempt.msg, of.attempt.detail)
    return _OVERHEAD + sum(len(text.encode()) for text in texts)


def is_kept(full: Collection[str], target: str) -> bool:
    """Whether there is room for an attempt, `full` being what is out of it: `""` for the store as a
    whole. What is delivered does not depend on them, so they are the first to go without."""
    return "" not in full and target not in full


#: Seconds between two beats of a process.
BEAT = 1.0

#: Seconds without one after which a process counts as gone.
GONE = 10.0

#: Seconds after which the row of one that is gone goes too.
FORGOTTEN = 600.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong in a process, in the words of its log."""

    #: On the process's own clock.
    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Node:
    """One process of a router, as it says of itself."""

    #: Its own from start to end.
    node_id: str
    host: str
    pid: int
    #: Where it takes callbacks.
    address: str
    version: str
    #: The hash of the configuration in force.
    config: str
    #: Seconds since it started.
    uptime: float
    #: It takes callbacks: opened, and not stopping.
    ready: bool
    #: Numbers of its own, by name.
    figures: Mapping[str, float]
    #: The last ones, newest first.
    troubles: tuple[Trouble, ...] = ()
    #: Seconds since its last beat, when it was looked at.
    silent: float = 0.0

    @property
    def gone(self) -> bool:
        return self.silent > GONE


class Nodes(Protocol):
    """Where processes write themselves. Both methods raise StoreFailed, at the latest when the
    timeout has passed."""

    async def beat(self, node: Node, timeout: float) -> Mapping[str, int]:
        """Write the process's row, and delete those of processes that were silent for FORGOTTEN
        seconds. How many processes are not gone, by the hash of the configuration they run."""
        ...

    async def leave(self, node_id: str, timeout: float) -> None:
        """The process ends, and its row with it."""
        ...


#: The most events of one body that a look-up shows, open ones first.
MAX_FOUND = 32

#: How long a stop waits for what is being written, in seconds.
CLOSE_TIMEOUT = 5.0


class Door(NamedTuple):
    """How other processes of this machine reach the router that owns a store's file."""

    #: Its ops port; `""` for none.
    url: str = ""
    #: A token of that port, good until the router ends: whoever may use the file may use the
    #: router that holds it.
    key: Secret = Secret("")


NO_DOOR: Final = Door()


class StoreFailed(RouterError):
    """The store is away, too slow or broken; the text is one word for logs and metrics.

    What was asked of it may still come to pass.
    """

    #: More words for people, where there are any; never a secret.
    detail: str = ""

    @property
    def told(self) -> str:
        """All of it, for people."""
        return f"{self} ({self.detail})" if self.detail else str(self)


#: What to do about some of its words.
ADVICE = {"gone": "its file was deleted or replaced: restart the router"}


class StoreFull(StoreFailed):
    """There is no room; nothing was written and nothing will be."""

    def __init__(self, targets: Collection[str] = ()) -> None:
        super().__init__("full")
        #: The targets that have used up their shares; none where the store as a whole is full.
        self.targets = frozenset(targets)


class Stage(StrEnum):
    """Where an event stands with its caller."""

    #: It is owed its `000`: a record.
    OPEN = "open"
    #: It has got its `000`.
    CLOSED = "closed"
    #: The caller has given it up, or another request with the same body has stood in for it.
    ENDED = "ended"


class State(StrEnum):
    """Where a delivery stands."""

    ACKNOWLEDGED = "acknowledged"
    #: It waits for the caller's retry.
    AWAITING = "awaiting"
    #: The router retries it.
    QUEUED = "queued"
    #: Another event, or a change of routes, has made it needless.
    SUPERSEDED = "superseded"
    #: A dead letter.
    DEAD = "dead"


#: What takes up a target's share of the store.
UNSETTLED = (State.AWAITING, State.QUEUED, State.DEAD)

#: Deliveries that are still being retried, by EBaaS or by the router.
RETRIED = (State.AWAITING, State.QUEUED)


@dataclass(frozen=True, slots=True)
class Record:
    """An event's row but for the event itself."""

    event_id: str
    stage: Stage
    #: When the first request came.
    first_at: float
    #: How many requests there were.
    requests: int
    #: When the last of them was answered, or hung up.
    replied_at: float
    #: When the caller's next request is due.
    due_at: float
    #: Until when its acknowledgements count.
    credit_until: float
    #: When the caller has given it up.
    ends_at: float
    #: Its acknowledgements count no more, whatever the time. Once true it stays true.
    spent: bool = False

    def columns(self) -> dict[str, Any]:
        """What a write sets of it: all but its id."""
        return {name: getattr(self, name) for name in _COLUMNS}


_COLUMNS = tuple(each.name for each in fields(Record) if each.name != "event_id")


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery's row; the target's name is its identity within the event."""

    target: str
    state: State
    #: Why its last attempt ended, or why it is dead; `""` while the first is in flight.
    reason: str = ""
    #: When a queued one is tried next.
    due_at: float = 0.0
    #: How many retries the router has made.
    retries: int = 0
    #: The failed attempt that has led here: written with the row, and no part of where it stands.
    tried: Tried | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one event."""

    record: Record
    rows: tuple[DeliveryRow, ...]

    def without_credit_of(self, late: Collection[str]) -> Kept:
        """What is left where those events, by their ids, came too late to count."""
        if self.record.event_id not in late:
            return self
        return replace(self, record=replace(self.record, spent=True))


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a request that has claimed a record leaves behind."""

    #: The record as it is from now on.
    record: Record
    #: The deliveries that changed; others stay as they are.
    rows: Sequence[DeliveryRow]
    #: The body's SHA-256.
    digest: bytes
    #: The targets that have acknowledged.
    reached: Collection[str]
    at: float


@dataclass(frozen=True, slots=True)
class Due:
    """A queued delivery that one process has leased."""

    event_id: str
    row: DeliveryRow
    letter: OutboundEvent
    lease: str
    #: A person has queued it anew.
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A record that is over, and what it leaves."""

    event_id: str
    event_key: str
    requests: int
    #: Its dead letters, by target: why the last attempt ended.
    dead: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much a store may hold, and for how long it shows what is over."""

    max_bytes: int
    #: Of events; each takes up 1 KiB at least, so that the bytes are the limit.
    max_rows: int = 1 << 40
    #: The part of either that one target's unsettled deliveries may take up.
    share: float = 0.25
    #: How long what is settled is shown, in seconds.
    keep_settled: float = 3600.0
    #: How long a dead letter is kept, in seconds.
    keep_dead: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store holds."""

    #: Events, settled ones included.
    rows: int
    bytes: int
    #: (target, state) to its number of unsettled deliveries.
    deliveries: Mapping[tuple[str, State], int]
    #: The fullest part of the limits, a target's share included: 1.0 is full.
    fullest: float
    #: The target whose share that is; `""` where it is the store as a whole.
    fullest_of: str = ""
    #: When the oldest event came that still awaits a retry or is queued; None where none does.
    oldest: float | None = None
    #: The targets whose shares are full, and `""` where the store as a whole is.
    full: frozenset[str] = frozenset()
    #: When the first event of those that await a retry for a target is given up by its caller.
    first_ends: Mapping[str, float] = field(default_factory=dict)
    #: When the first queued delivery is due, by target and the retries it has had.
    first_due: Mapping[tuple[str, int], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pause:
    """The last pause of a target. Its optional deliveries wait, its required ones fail at once."""

    target: str
    since: float
    #: It is over by itself then; who ends it sooner puts that moment here.
    until: float
    because: str
    who: str
    #: Who has ended it before its time; `""` where nobody has.
    resumed_by: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What was last told of something, by any of the processes that share a store, and when."""

    what: str
    at: float


class Store(Protocol):
    """Every method that takes a timeout raises StoreFailed, at the latest when that has passed,
    never blocks the loop for longer than a point look-up, and is atomic: a crash leaves all of it
    or nothing. What it has returned from is durable (it survives kill -9 and a power cut), and is
    seen by every later call of every process. Calls made at the same time take effect in any order.

    With each row that is written the failed attempt that it brings is kept, LAST of them and the
    first; not while its target's share or the store was full when `usage` was last asked for.
    """

    #: False where nothing is remembered at all: `find` finds nothing, and nothing is ever written.
    remembers: bool

    #: Where the processes that share it write themselves; None where it is no matter of several.
    nodes: Nodes | None

    def now(self) -> float:
        """The time on the clock that all processes of this store share."""
        ...

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        """The events of that body, open ones first, and not more than a few dozen. The cost does
        not grow with the store."""
        ...

    async def add(
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        """Insert an event with its deliveries. Raises StoreFull where there is no room.

        A write that misses its timeout and commits all the same is spent from the start.
        """
        ...

    async def settle(self, settlement: Settlement, timeout: float) -> bool:
        """Write what a request that has claimed the record has come to. False, and nothing
        written, where it is not open any more: somebody else has closed it, or it has ended.

        An acknowledged row stays acknowledged. Closing spends every other open record of the body,
        and marks their deliveries to the targets reached as acknowledged later. Raises StoreFull.
        """
        ...

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        by: str = "",
    ) -> None:
        """A request that claimed none of these has got its `000`: the open deliveries of the open
        ones to the targets reached are superseded, their dead letters are marked as acknowledged
        later, the records are spent, and end where nothing is awaited any more. `by` is the id of
        the request's event."""
        ...

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        """Mark a delivery acknowledged, whatever its state. False where it is not there."""
        ...

    async def missed(self, event_id: str, target: str, tried: Tried, timeout: float) -> None:
        """Keep an attempt that has failed after its row was written: the row stays as it is, but
        for a reason that was not known yet. Nothing where the delivery is not there."""
        ...

    async def spend_all(self, timeout: float) -> None:
        """Spend every record there is, in one step whose cost does not grow with the store."""
        ...

    async def queue(self, timeout: float) -> Mapping[str, float]:
        """The targets that have queued deliveries, and when the first of each is due."""
        ...

    async def take(
        self, target: str, now: float, until: float, limit: int, timeout: float
    ) -> tuple[Due, ...]:
        """Lease up to `limit` due deliveries of a target until then, the earliest due first.
        Until then nobody else gets them; after that they are due again."""
        ...

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        """Give a leased delivery back as `row`. False where the lease or the delivery is over."""
        ...

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        """End up to `limit` open records whose time has passed: what they await becomes a dead
        letter."""
        ...

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        """Delete up to `limit` events that are settled or dead and have been shown for long
        enough, and give back their room; how many there were."""
        ...

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        """The last pause of each target, those that are over for a while included."""
        ...

    async def notice(self, name: str, timeout: float) -> Notice | None:
        """What was last told of it; None where nothing was, or it is long ago."""
        ...

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        """Put a notice in the place of `before`. False, and nothing written, where another is there
        meanwhile: then somebody else has told it. Asked twice, it says the same."""
        ...

    async def usage(self, timeout: float) -> Usage:
        """What it holds; the cost does not grow with the number of rows."""
        ...

    async def close(self) -> None:
        """Finish what is being written, up to a few seconds, and let go of the rest."""
        ...
