"""What people ask of a store and do with it: find, replay, discard or restore deliveries, pause
targets; and the filters that command lines and the API share.

What a person can do is a function here, which says what is wrong in a ValueError, and prints
nothing.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple, Protocol

from router.contract.replies import harmless
from router.contract.schedule import parse_time
from router.model.event import OutboundEvent
from router.routing.index import Glob
from router.store.protocol import UNSETTLED, DeliveryRow, Node, Pause, Record, State, Tried
from router.telemetry.log.lines import stamp

#: The longest pause, in seconds: what is to go on is `paused: true` in routes.yaml.
MAX_PAUSE = 30 * 86400.0

#: The most of a reason, and of a name, in characters.
MAX_BECAUSE, MAX_WHO = 200, 100


class Pauses(Protocol):
    """The part of a store's Admin that is about them."""

    def now(self) -> float: ...

    async def pauses(self) -> tuple[Pause, ...]:
        """The last one of each target; one that is over is kept for as long as what is settled."""
        ...

    async def put_pause(self, pause: Pause) -> None:
        """Let it be the target's, in place of any other."""
        ...

    async def end_pause(self, target: str, who: str) -> Pause | None:
        """End the target's pause now; None, and nothing written, where it has none."""
        ...


def _end(until: str, now: float) -> float:
    try:
        return parse_time(until, now, ahead=True)
    except ValueError:
        raise ValueError(
            f"{until!r} is neither a time from now (like 10m, 2h, 3d) nor one like "
            "2026-11-26T13:00:00Z"
        ) from None


async def pause(ops: Pauses, target: str, until: str, because: str, who: str) -> Pause:
    """Pause a target until then, so long from now or a time as `parse_time` reads them, which every
    process that shares the store knows within a second. A pause that it has already ends with this
    one."""
    now = ops.now()
    end = _end(until, now)
    if end <= now:
        raise ValueError(f"{until!r} is over already")
    if end > now + MAX_PAUSE:
        raise ValueError(
            f"{until!r} is more than 30 days away; what has no end is `paused: true` in routes.yaml"
        )
    said = harmless(because, MAX_BECAUSE)
    if not said or len(because) > MAX_BECAUSE:
        raise ValueError(f"the reason has to have 1 to {MAX_BECAUSE} characters")
    new = Pause(target, now, end, said, harmless(who, MAX_WHO))
    await ops.put_pause(new)
    return new


async def resume(ops: Pauses, target: str, who: str) -> Pause | None:
    """End a target's pause; None where it has none. What routes.yaml pauses stays paused."""
    return await ops.end_pause(target, harmless(who, MAX_WHO))


async def paused(ops: Pauses) -> tuple[Pause, ...]:
    """The pauses that are in force, by target."""
    now = ops.now()
    return tuple(sorted((p for p in await ops.pauses() if p.until > now), key=lambda p: p.target))


#: The reason of a delivery that a person has discarded. Its state is `superseded`: it is settled,
#: raises no alarm, and yields, as that does, to an acknowledgement and to a retry that needs it.
DISCARDED = "discarded"

#: Before the first page.
START = (0, "")

#: The most deliveries that are changed in one commit, so that the router is never held up.
STEP = 200


class Verb(StrEnum):
    """What a person can do with deliveries."""

    #: Have the router try a dead letter again, from its first retry on.
    REPLAY = "replay"
    #: Settle what is not to be delivered.
    DISCARD = "discard"
    #: Take a discard back: the delivery stands as it did before.
    RESTORE = "restore"

    @property
    def states(self) -> tuple[State, ...]:
        """Where a delivery has to stand for it. What is awaited is not replayed: the caller's own
        retry would overlap it."""
        return _STANDS[self]

    def fits(self, row: DeliveryRow) -> bool:
        discarded = self is not Verb.RESTORE or row.reason == DISCARDED
        return row.state in self.states and discarded

    def acted(self, entry: Entry, now: float) -> DeliveryRow:
        """The delivery from now on; what would be awaited from a caller that has given up is dead,
        which the store sees to."""
        row = entry.row
        if self is Verb.REPLAY:
            return replace(row, state=State.QUEUED, due_at=now, retries=0)
        if self is Verb.DISCARD:
            return replace(row, state=State.SUPERSEDED, reason=DISCARDED)
        # A program of old that has discarded it leaves what stood before an earlier action there.
        state, reason = entry.before or (State.DEAD, "")
        if state not in UNSETTLED:
            state, reason = State.DEAD, ""
        return replace(row, state=state, reason=reason)


_STANDS = {
    Verb.REPLAY: (State.DEAD,),
    Verb.DISCARD: UNSETTLED,
    Verb.RESTORE: (State.SUPERSEDED,),
}


class Later(StrEnum):
    """What to do about deliveries whose body was acknowledged later, as another event's."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries: those that every part fits. A part that is empty fits all."""

    targets: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    event_ids: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    #: The event's key fits any of them.
    keys: tuple[Glob, ...] = ()
    #: The event's first request came then or later.
    since: float | None = None
    #: It came before.
    until: float | None = None
    acknowledged_later: Later = Later.INCLUDE
    #: The event, its request or its trace has one of these ids, the SHA-256 of its body begins so,
    #: its body has it in quotes, or its key fits the pattern beside it.
    known_by: tuple[tuple[str, Glob], ...] = ()
    #: One of the event's deliveries was changed then or later.
    changed_since: float | None = None
    #: One of its failed attempts had this code or HTTP status, or its caller may have been told so.
    codes: tuple[str, ...] = ()
    #: It has not got its `000`, or an attempt of it has failed.
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """How many deliveries of a target are in one state."""

    target: str
    state: State
    deliveries: int
    #: How many of them were acknowledged later, as another event's.
    acknowledged_later: int
    #: When the first request of the oldest one's event came.
    oldest_at: float


class ReplayPlace(NamedTuple):
    """How far a replay from the archive has come: its events are queued in this order."""

    #: When the event came.
    at: float
    event_id: str

    def __str__(self) -> str:
        return f"up to {stamp(self.at)} {self.event_id}"


@dataclass(frozen=True, slots=True)
class Action:
    """One command of a person, over all its steps."""

    action_id: str
    verb: Verb
    who: str
    #: The selection in the person's own words.
    what: str
    #: When it began.
    at: float
    #: How many deliveries it has changed.
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
    """One delivery as it was when it was looked at."""

    #: Its event's number, in the order in which events were recorded.
    seq: int
    event_id: str
    event_key: str
    #: When the event's first request came.
    first_at: float
    row: DeliveryRow
    #: When the row was last written.
    changed_at: float
    #: When another event with the same body was acknowledged by this target.
    acknowledged_later_at: float | None
    #: The last action on it, as long as that is kept.
    action: Action | None
    #: State and reason before that; None where there was none, or a program of old made it.
    before: tuple[State, str] | None = None
    #: The event that has stood in for it, by superseding it or by being acknowledged later; `""`
    #: where there is none, or it is not known.
    later_event: str = ""
    #: Its attempt is in flight until its `due_at`, unless its process has died.
    is_leased: bool = False
    #: What the receiver said at its last failed attempt that is kept, or else what went wrong; `""`
    #: where none is kept.
    said: str = ""

    def is_as_of(self, moment: float) -> bool:
        """Whether it was so already then."""
        return self.changed_at < moment and (self.acknowledged_later_at or 0.0) < moment


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is kept of one event."""

    record: Record
    letter: OutboundEvent
    entries: tuple[Entry, ...]
    #: By target, in the order in which they were made.
    attempts: Mapping[str, tuple[Tried, ...]]


@dataclass(frozen=True, slots=True)
class Resend:
    """An event to be delivered to a target again."""

    #: How it is put, where the store does not have it.
    record: Record
    letter: OutboundEvent

    @property
    def place(self) -> ReplayPlace:
        return ReplayPlace(self.record.first_at, self.record.event_id)


@dataclass(frozen=True, slots=True)
class Resent:
    """How far one step came."""

    #: So many, the first ones; the next has found no room.
    taken: int
    #: How many of them have been queued.
    queued: int


class Admin(Pauses, Protocol):
    """Opened beside running routers, whose requests it never holds up.

    Every method raises StoreFailed, blocks no loop, and is stopped by cancelling it. What reads
    may take seconds in a store of millions; what writes is atomic and durable like a Store's.
    """

    def now(self) -> float:
        """The time on the clock that all processes of this store share."""
        ...

    async def counts(self, selection: Selection) -> tuple[Count, ...]:
        """By target and state; pairs without deliveries are left out."""
        ...

    def pages(
        self, selection: Selection, size: int, after: tuple[int, str] = START
    ) -> AsyncIterator[tuple[Entry, ...]]:
        """The deliveries in pages of up to `size`, in the order of recording, behind the one that
        has this number and target. Each page is read when it is asked for, and no delivery comes
        twice, whatever is changed meanwhile."""
        ...

    async def dossier(self, event_id: str) -> Dossier | None:
        """All that is kept of an event; None where it is not there (any more)."""
        ...

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        """Take up to STEP of an action's deliveries, in one commit with the action itself; how
        many have changed. One that stands elsewhere than when it was looked at stays as it is.

        Replayed: `queued`, due now, no retry made. Discarded: `superseded`, its reason DISCARDED.
        Restored: as before it was discarded, but dead where its record is not open any more.
        """
        ...

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Resent:
        """Queue an action's events for a target, in order, due now, up to STEP of them, as far as
        its share of the store and half of the whole have room; in one commit with the action
        itself, whose place is then the last one taken. Without events it has no place any more.

        A delivery stays as it is if it is still being retried (RETRIED), or if this action has
        queued it before. Where the event stands with its caller does not matter.
        """
        ...

    async def actions(self, limit: int) -> tuple[Action, ...]:
        """The last ones, newest first. They are kept for as long as dead letters."""
        ...

    async def nodes(self) -> tuple[Node, ...] | None:
        """The processes that share the store; None where it is no matter of several."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Step:
    """A part of an action that is done."""

    #: How many deliveries were to be changed, and how many have been.
    taken: int
    changed: int


async def carry_out(
    ops: Admin, action: Action, selection: Selection, before: float = inf
) -> AsyncGenerator[Step, None]:
    """The whole action, step by step, on what has not changed since `before`. Half of the time is
    the router's: without the pauses its commits would find the store locked again and again."""
    async for page in ops.pages(selection, STEP):
        began = time.monotonic()
        entries = [entry for entry in page if entry.is_as_of(before)]
        changed = await ops.act(action, entries) if entries else 0
        yield Step(len(entries), changed)
        await asyncio.sleep(time.monotonic() - began)


#: By name: the values of which any fits, or one; time spans are in seconds. None, or nothing, where
#: it was not given.
Filters = Mapping[str, Any]

#: All there are.
FILTERS = ("target", "state", "match", "event", "older_than", "newer_than", "acknowledged_later")


def selection_of(filters: Filters, now: float) -> Selection:
    """Unless a state is given, of what is not settled."""
    older, newer = filters.get("older_than"), filters.get("newer_than")
    return Selection(
        targets=tuple(filters.get("target") or ()),
        states=tuple(map(State, filters.get("state") or UNSETTLED)),
        event_ids=tuple(filters.get("event") or ()),
        keys=tuple(filters.get("match") or ()),
        since=None if newer is None else now - newer,
        until=None if older is None else now - older,
        acknowledged_later=Later(filters.get("acknowledged_later") or Later.INCLUDE),
    )


def acted_on(verb: Verb, filters: Filters, now: float) -> Selection:
    """What fits of what is there now. Unless it is said otherwise what is dead; what was
    acknowledged later is not replayed. Raises ValueError for a state that the verb is not for."""
    states = tuple(map(State, filters.get("state") or ()))
    check_states(verb, states)
    selection = selection_of(filters, now)
    usual = State.SUPERSEDED if verb is Verb.RESTORE else State.DEAD
    later = Later.EXCLUDE if verb is Verb.REPLAY else Later.INCLUDE
    return replace(
        selection,
        states=states or (usual,),
        reasons=(DISCARDED,) if verb is Verb.RESTORE else (),
        until=now if selection.until is None else selection.until,
        acknowledged_later=Later(filters.get("acknowledged_later") or later),
    )


def check_states(verb: Verb, states: Sequence[State]) -> None:
    """Raises ValueError for a state that the verb is not for."""
    for state in states:
        if state not in verb.states:
            why = "is settled already"
            if verb is Verb.RESTORE:
                why = "was not discarded"
            elif state in (State.QUEUED, State.AWAITING):
                why = "is retried anyway"
            raise ValueError(f"what is {state} {why}; {verb} is not for it")


def filter_texts(filters: Filters) -> Iterator[tuple[str, str]]:
    """Each name with each of its values, as they are typed."""
    for name in FILTERS:
        given = filters.get(name)
        for each in given if isinstance(given, (list, tuple)) else (given,):
            if each is not None:
                yield name, _text(each)


def filter_words(filters: Filters) -> str:
    """As a command line has them."""
    pairs = ((f"--{name.replace('_', '-')}", text) for name, text in filter_texts(filters))
    return shlex.join(word for pair in pairs for word in pair)


def _text(given: object) -> str:
    if isinstance(given, Glob):
        return given.pattern
    if isinstance(given, float):
        return f"{given:.9f}".rstrip("0").rstrip(".") + "s"
    return str(given)
