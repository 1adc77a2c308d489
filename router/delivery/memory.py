"""Delivery memory at work: a request recalls what is known of its body, and leaves word."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple

from router.contract.schedule import Terms
from router.delivery import rules
from router.delivery.rules import Cause, Delivery
from router.delivery.target.sender import Flight
from router.model.event import Attempt, OutboundEvent, new_id
from router.store.protocol import (
    DeliveryRow,
    Kept,
    Record,
    Settlement,
    State,
    Store,
    StoreFailed,
    StoreFull,
    Tried,
)
from router.transport.engine import TargetExchange, as_it_came

_NO_ROWS: Final[Mapping[str, DeliveryRow]] = {}

#: How long a late acknowledgement tries to be written, in seconds. Nobody waits for it.
LATE_TIMEOUT: Final = 10.0

#: The most bodies, and the most deliveries, that wait until the store is back to be written:
#: some 20 MB. The first ones are kept, for they are likelier to be retries of recorded events.
MAX_OWED = 50_000

#: How many of them are written at the same time.
_STEP: Final = 64


class DeliveryKey(NamedTuple):
    """An event at a target; the digest of its body says which requests may ask for it."""

    event_id: str
    target: str
    digest: bytes


class BlindReply(NamedTuple):
    """A `000` that was given while the records of its body were unknown or out of reach."""

    event_id: str
    #: The targets that had acknowledged, and when the `000` was decided.
    reached: tuple[str, ...]
    at: float


class Account:
    """What a request has come to, and the configuration that it has come to it under."""

    __slots__ = ("deliveries", "targets", "terms")

    def __init__(
        self, deliveries: Sequence[Delivery], targets: Collection[str], terms: Terms
    ) -> None:
        #: One for each target of the plan.
        self.deliveries = deliveries
        #: Every target that there is, in the plan or not.
        self.targets = targets
        self.terms = terms

    @property
    def settled(self) -> bool:
        """Nothing keeps the `000` back, where every required target has acknowledged."""
        for delivery in self.deliveries:  # noqa: SIM110 - all() takes three times as long
            if not (delivery.required or delivery.settled):
                return False
        return True

    @property
    def reached(self) -> list[str]:
        return [delivery.target.name for delivery in self.deliveries if delivery.acknowledged]


class RequestMemory:
    """What one request knows of its body. Not frozen: it lives as long as its request."""

    __slots__ = (
        *("blind", "cause", "dead", "event_id", "first_at", "is_new", "just_ended", "kept"),
        *("letter", "others", "overtaken", "record", "rows", "trouble", "unsuperseded"),
    )

    def __init__(self, letter: OutboundEvent, first_at: float, event_id: str) -> None:
        self.letter = letter
        #: When the request came.
        self.first_at = first_at
        self.event_id = event_id
        #: The record it has claimed, and its deliveries then.
        self.record: Record | None = None
        self.rows: Mapping[str, DeliveryRow] = _NO_ROWS
        #: Events of the same body that it has not claimed, by id.
        self.others: tuple[str, ...] = ()
        #: The store could not be asked.
        self.blind = False
        #: Why, where that is the store's own error and no consequence of an earlier one.
        self.trouble = ""
        #: Records of the body may await what its targets acknowledge, and could not be told.
        self.unsuperseded = False
        #: The deliveries that this request has left as dead letters.
        self.dead: tuple[DeliveryRow, ...] = ()
        #: Why its targets may see the event again though nothing was claimed.
        self.cause: Cause | None = None
        #: Another request with this body has got its `000` meanwhile.
        self.overtaken = False
        #: The event is in the store, or may get there yet.
        self.kept = False
        #: It goes on with no record.
        self.is_new = True
        #: Attempts that were released since the look-up began: its rows may be older than they are.
        self.just_ended: dict[DeliveryKey, Flight] | None = None

    @property
    def requests(self) -> int:
        """Which request of the event this is, from 1."""
        return 1 if self.record is None else self.record.requests

    def claim(self, kept: Kept) -> None:
        """Go on with a record. Nothing is written: the claim is held by being undecided."""
        self.record = replace(kept.record, requests=kept.record.requests + 1)
        self.is_new = False
        self.event_id = kept.record.event_id
        self.rows = {row.target: row for row in kept.rows}
        self.kept = True


class Memory:
    """What requests recall and leave. One for the process; it owns the attempts in flight."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Whether there is a store to remember by.
        self.remembers = store.remembers
        #: The attempts in flight, by event and target, and those the store has yet to learn of.
        self.attempts: dict[DeliveryKey, Flight] = {}
        #: The requests that are not decided yet, by body.
        self._live: dict[bytes, list[RequestMemory]] = {}
        #: `000`s that were given while the store could not be asked, and are not made good yet.
        self._blindly = 0
        #: What the store has to learn of once it is back: the `000`s, by body, and when deliveries
        #: were acknowledged, by event and target.
        self._stand_ins: dict[bytes, BlindReply] = {}
        self._acknowledged: dict[DeliveryKey, float] = {}
        #: How many of these were written, and how many found no room, since somebody asked.
        self._made_good = self._left_out = 0

    def to_join(self, key: DeliveryKey, recalled: RequestMemory | None = None) -> Flight | None:
        """Return the attempt that a retry joins instead of repeating it.

        It is in flight, or it was acknowledged and the retry may not have read that yet. After a
        failed attempt the retry makes one of its own.
        """
        flight = self.attempts.get(key)
        if flight is None and recalled is not None and recalled.just_ended is not None:
            flight = recalled.just_ended.get(key)
        if flight is None or not flight.is_over:
            return flight
        attempt = flight.value
        return flight if attempt is not None and attempt.acknowledged else None

    def release(self, key: DeliveryKey, flight: Flight) -> None:
        """The store has the result of this attempt: a look-up that begins now need not join it.

        A request for the same body whose look-up began earlier may have read the row as it was
        before, so it keeps the attempt. A later attempt at the same target stays.
        """
        if self.attempts.get(key) is flight:
            del self.attempts[key]
        for recalled in self._live.get(key.digest, ()):
            if recalled.just_ended is None:
                recalled.just_ended = {}
            recalled.just_ended[key] = flight

    async def recall(self, letter: OutboundEvent, timeout: float) -> RequestMemory:
        """What is known of this body: a claimed record, or a new event. Never raises StoreFailed.

        The request has to `leave` once it is decided.
        """
        digest = letter.digest
        recalled = RequestMemory(letter, self._store.now(), new_id())
        self._live.setdefault(digest, []).append(recalled)
        try:
            found = await self._store.find(digest, timeout)
            if found or self._blindly:
                self._recognise(recalled, found)
        except StoreFailed as error:
            recalled.blind = recalled.unsuperseded = True
            recalled.trouble = str(error)
            recalled.cause = Cause.STORE
        except BaseException:
            self.leave(recalled)
            raise
        return recalled

    def leave(self, recalled: RequestMemory) -> None:
        """The request is decided; its late attempts may still be in flight."""
        live = self._live[recalled.letter.digest]
        live.remove(recalled)
        if not live:
            del self._live[recalled.letter.digest]

    async def answer(self, recalled: RequestMemory, account: Account, timeout: float) -> bool:
        """Make it durable that the event may get its `000`; False where it must not.

        Every required target has acknowledged. Where nothing is left to remember, nothing is
        written. Raises StoreFailed where what is left could not be.
        """
        # A new event of which all is settled leaves nothing to remember.
        is_plain = recalled.is_new and not recalled.others and account.settled
        must_commit = self.remembers and not is_plain
        if must_commit and not await self._commit(recalled, account, timeout):
            return False
        if recalled.blind:
            self._blindly += 1
        if recalled.unsuperseded:
            self._owe_stand_in(recalled, account)
        # Whoever else has this body in hand can't tell its event from this one any more.
        for other in self._others(recalled):
            other.overtaken = True
        return True

    async def record(self, recalled: RequestMemory, account: Account, timeout: float) -> bool:
        """Keep a failed event for its caller's retry, within `timeout` seconds. False where nothing
        is remembered, or the claim was lost. Raises StoreFailed where it was not recorded."""
        if not self.remembers:
            return False
        clock = asyncio.get_running_loop().time
        ends = clock() + timeout
        # Whoever of these gets its `000` has, for all one can tell, stood in for this event too.
        for other in self._others(recalled):
            other.others = (*other.others, recalled.event_id)
        overtaken = recalled.overtaken
        left = self._failed(recalled, account.terms)
        rows = self._rows(recalled, account, left)
        try:
            kept = await self._keep(recalled, account, left, rows, timeout)
        except StoreFull as full:
            if not full.targets:
                raise
            # Without those it can still be recorded: the retry will call them again.
            rows = [row for row in rows if row.target not in full.targets]
            kept = await self._keep(recalled, account, left, rows, max(0.0, ends - clock()))
        if recalled.overtaken and not overtaken:
            more = max(0.0, ends - clock())
            await self._store.supersede([left.event_id], (), self._store.now(), more)
        return kept

    async def late(self, recalled: RequestMemory, target: str, attempt: Attempt) -> None:
        """An attempt that has outlived its request has ended: written where the event is kept."""
        event_id = recalled.event_id
        if not recalled.kept:
            return
        if not attempt.acknowledged:
            tried = Tried(attempt, request=recalled.requests)
            await self._store.missed(event_id, target, tried, LATE_TIMEOUT)
        else:
            await self.acknowledge(
                DeliveryKey(event_id, target, recalled.letter.digest), attempt, LATE_TIMEOUT
            )

    async def acknowledge(self, key: DeliveryKey, attempt: Attempt, timeout: float) -> None:
        """Write that a delivery is acknowledged, whatever has become of it. Raises StoreFailed;
        then it is written once the store is back."""
        now = self._store.now()
        try:
            await self._store.acknowledge(key.event_id, key.target, now, timeout)
        except StoreFailed:
            self._owe(key, attempt, now)
            raise

    async def write_pending(self, timeout: float) -> None:
        """Once the store can be asked again, write what it should have learnt meanwhile.

        First spend what was recorded before the `000`s that were given blindly: until then every
        look-up counts as blind. Then write the acknowledgements. Raises StoreFailed; what is
        written by then stays written.
        """
        clock = asyncio.get_running_loop().time
        ends = clock() + timeout
        blindly = self._blindly
        if blindly:
            await self._store.spend_all(timeout)
            self._blindly -= blindly
        while self._stand_ins:
            some = list(islice(self._stand_ins.items(), _STEP))
            await _all(self._write_stand_in(*each, ends - clock()) for each in some)
        while self._acknowledged:
            keys = list(islice(self._acknowledged, _STEP))
            await _all(self._write_acknowledged(key, ends - clock()) for key in keys)

    def made_good(self) -> int:
        """How many acknowledgements have been made good since this was last asked."""
        made_good, self._made_good = self._made_good, 0
        return made_good

    def left_out(self) -> int:
        """How many more never will be: there was no room to keep them."""
        left_out, self._left_out = self._left_out, 0
        return left_out

    def _owe(self, key: DeliveryKey, attempt: Attempt, now: float) -> None:
        if len(self._acknowledged) >= MAX_OWED and key not in self._acknowledged:
            self._left_out += 1
            return
        self._acknowledged[key] = now
        # To be joined until then; not the attempt's own flight, which keeps its body in memory.
        flight = self.attempts[key] = TargetExchange(as_it_came)
        flight.end(attempt)

    def _owe_stand_in(self, recalled: RequestMemory, account: Account) -> None:
        digest, reached = recalled.letter.digest, account.reached
        before = self._stand_ins.get(digest)
        if before is not None:
            reached += [name for name in before.reached if name not in reached]
        elif len(self._stand_ins) >= MAX_OWED:
            self._left_out += 1
            return
        self._stand_ins[digest] = BlindReply(recalled.event_id, tuple(reached), self._store.now())

    async def _write_stand_in(self, digest: bytes, given: BlindReply, timeout: float) -> None:
        """Supersede what records of the body await that were left before the `000`."""
        found = await self._store.find(digest, timeout)
        before = [kept.record for kept in found if kept.record.replied_at <= given.at]
        if before:
            ids = [record.event_id for record in before]
            await self._store.supersede(
                ids, given.reached, self._store.now(), timeout, given.event_id
            )
            self._made_good += 1
        if self._stand_ins.get(digest) is given:
            del self._stand_ins[digest]

    async def _write_acknowledged(self, key: DeliveryKey, timeout: float) -> None:
        at = self._acknowledged[key]
        self._made_good += await self._store.acknowledge(key.event_id, key.target, at, timeout)
        del self._acknowledged[key]
        flight = self.attempts.get(key)
        if flight is not None and flight.is_over:
            self.release(key, flight)

    def _recognise(self, recalled: RequestMemory, found: Sequence[Kept]) -> None:
        """Claim one of the records of this body, or none of them."""
        if self._blindly:
            # Their credit is in doubt; that a `000` makes them needless is not.
            recalled.others = tuple(kept.record.event_id for kept in found)
            recalled.blind = True
            recalled.cause = Cause.STORE
            return
        # Beside another request with this body there is no telling whose record is whose.
        alone = not self._others(recalled)
        claimed = rules.nearest(found, self._store.now()) if alone else None
        if claimed is None:
            recalled.cause = rules.cause(found, alone=alone)
        else:
            recalled.claim(claimed)
        others = (kept.record.event_id for kept in found if kept is not claimed)
        recalled.others = tuple(others)

    async def _commit(self, recalled: RequestMemory, account: Account, timeout: float) -> bool:
        """What has to be durable before a `000`."""
        now = self._store.now()
        if recalled.record is not None:
            left = rules.closed(recalled.record, now)
            rows = self._rows(recalled, account, left)
            return await self._keep(recalled, account, left, rows, timeout)
        if recalled.others:
            timeout /= 2
        if not account.settled:
            left = rules.answered(recalled.event_id, recalled.first_at, now)
            rows = rules.rows_after(account.deliveries, left, now, account.terms)
            unsettled = [row for row in rows if row.state is not State.ACKNOWLEDGED]
            await self._keep(recalled, account, left, unsettled, timeout)
        if recalled.others:
            await self._supersede(recalled, account, timeout)
        return True

    async def _supersede(self, recalled: RequestMemory, account: Account, timeout: float) -> None:
        """No `000` has to wait for it, but if it fails, their credit has to go another way."""
        others, reached = recalled.others, account.reached
        try:
            await self._store.supersede(
                others, reached, self._store.now(), timeout, recalled.event_id
            )
        except StoreFailed:
            recalled.blind = recalled.unsuperseded = True

    async def _keep(
        self,
        recalled: RequestMemory,
        account: Account,
        left: Record,
        rows: Sequence[DeliveryRow],
        timeout: float,
    ) -> bool:
        if recalled.record is None:
            recalled.kept = True
            await self._store.add(left, recalled.letter, rows, timeout)
            recalled.dead = _dead(rows)
            return True
        settlement = Settlement(
            left,
            rows,
            recalled.letter.digest,
            account.reached,
            self._store.now(),
        )
        try:
            settled = await self._store.settle(settlement, timeout)
        except StoreFailed:
            self._owe_rows(recalled, account)
            raise
        if settled:
            recalled.dead = _dead(rows)
        else:
            # Another process has closed or ended it, and does not know of these.
            self._owe_rows(recalled, account)
        return settled

    def _owe_rows(self, recalled: RequestMemory, account: Account) -> None:
        """What this request has achieved for a record that could not be written."""
        now = self._store.now()
        for delivery in account.deliveries:
            attempt = delivery.attempt
            if attempt is not None and attempt.acknowledged:
                key = DeliveryKey(recalled.event_id, delivery.target.name, recalled.letter.digest)
                self._owe(key, attempt, now)

    def _others(self, recalled: RequestMemory) -> list[RequestMemory]:
        """The undecided requests with the same body."""
        live = self._live[recalled.letter.digest]
        return [other for other in live if other is not recalled] if len(live) > 1 else []

    def _failed(self, recalled: RequestMemory, terms: Terms) -> Record:
        now, spent = self._store.now(), recalled.overtaken
        if recalled.record is not None:
            return rules.failed(recalled.record, now, terms, spent=spent)
        first_at = recalled.first_at
        return rules.opened(recalled.event_id, first_at, now, terms, spent=spent)

    def _rows(self, recalled: RequestMemory, account: Account, left: Record) -> list[DeliveryRow]:
        """Every row that changes, those of targets that are in the plan no more included."""
        rows = rules.rows_after(account.deliveries, left, self._store.now(), account.terms)
        plan = {delivery.target.name for delivery in account.deliveries}
        return rows + rules.left_behind(recalled.rows, plan, account.targets)


async def _all(writes: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Let each of them end, then raise the first error."""
    for error in await asyncio.gather(*writes, return_exceptions=True):
        if error is not None:
            raise error


def _dead(rows: Sequence[DeliveryRow]) -> tuple[DeliveryRow, ...]:
    return tuple(row for row in rows if row.state is State.DEAD)
