"""Delivery memory: what a request knows of its body, and what it leaves for the next request.

Rule numbers are those of docs/internals/memory.md.
"""

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
from router.model.event import Attempt, OutboundEvent, Reason, new_id
from router.routing.table import Plan
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

#: The pause between two looks at another process's attempt, and the timeout of each, in seconds.
FOLLOW_PAUSE, FOLLOW_TIMEOUT = 0.1, 1.0

#: How long an acknowledgement is kept whose record may still be written, in seconds.
UNKNOWN_FOR: Final = 30.0

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


class RequestMemory:
    """A request's knowledge of its body. Mutable: it changes until the request is decided."""

    __slots__ = (
        *("blind", "cause", "dead", "earlier", "event_id", "first_at", "letter"),
        *("may_be_stored", "must_supersede_later", "other_event_ids", "overtaken", "record"),
        *("released_meanwhile", "rows", "trouble"),
    )

    def __init__(self, letter: OutboundEvent, first_at: float, event_id: str) -> None:
        self.letter = letter
        #: When the request came.
        self.first_at = first_at
        self.event_id = event_id
        #: The record that the request has claimed, and its deliveries at that time.
        self.record: Record | None = None
        self.rows: Mapping[str, DeliveryRow] = _NO_ROWS
        #: The only record of its body, as the previous request left it, claimed or not; None if
        #: there is none, or several requests or events may be meant.
        self.earlier: Record | None = None
        #: The ids of events with the same body that it has not claimed.
        self.other_event_ids: tuple[str, ...] = ()
        #: The store could not be asked.
        self.blind = False
        #: The store's own error; `""` if the request is blind because of an earlier one.
        self.trouble = ""
        #: Records of the body may await targets that have acknowledged now, which the store could
        #: not write.
        self.must_supersede_later = False
        #: The deliveries that this request has left as dead letters.
        self.dead: tuple[DeliveryRow, ...] = ()
        #: Why its targets may see the event again although nothing was claimed.
        self.cause: Cause | None = None
        #: Another request with this body got its `000` in the meantime.
        self.overtaken = False
        #: The event is in the store, or may still be written.
        self.may_be_stored = False
        #: Attempts that were released since the look-up began: its rows may be older than they are.
        self.released_meanwhile: dict[DeliveryKey, Flight] | None = None

    @property
    def is_new(self) -> bool:
        """It has claimed no record."""
        return self.record is None

    @property
    def began_at(self) -> float:
        """The time of the event's first request."""
        return self.first_at if self.record is None else self.record.first_at

    @property
    def requests(self) -> int:
        """The number of this request among those of the event, from 1."""
        return 1 if self.record is None else self.record.requests

    def claim(self, kept: Kept) -> None:
        """Continue a record. Nothing is written: an undecided request holds its claim (rule 5)."""
        self.record = replace(kept.record, requests=kept.record.requests + 1)
        self.event_id = kept.record.event_id
        self.rows = {row.target: row for row in kept.rows}
        self.may_be_stored = True


class Outcome:
    """One request: all its deliveries, and how they went."""

    def __init__(
        self,
        letter: OutboundEvent,
        plan: Plan,
        recalled: RequestMemory,
        targets: Collection[str],
        terms: Terms,
        *,
        remembered: bool,
    ) -> None:
        self.letter = letter
        self.recalled = recalled
        #: The names of all configured targets, and the terms, when the request came.
        self.targets = targets
        self.terms = terms
        #: Whether there is a memory at all.
        self.remembered = remembered
        row_of = recalled.rows.get
        self.deliveries = [
            *[Delivery(target, True, row_of(target.name)) for target in plan.required],
            *[Delivery(target, False, row_of(target.name)) for target in plan.optional],
        ]
        #: The event may get its `000`. The reply depends on this alone.
        self.settled = False
        #: An optional delivery found no room in the store, so the reply is a failure.
        self.unqueued = False
        #: Why nothing is remembered of the event although it should be; `""` if all is well.
        self.unrecorded = ""
        #: A fault of the router itself while the reply was decided.
        self.fault: Exception | None = None

    @property
    def acknowledged(self) -> bool:
        """Every required target has acknowledged; without that there is no `000`."""
        for delivery in self.deliveries:  # all() takes three times as long
            if delivery.required and not delivery.acknowledged:
                return False
        return True

    @property
    def has_optional_left(self) -> bool:
        """Some optional delivery is neither acknowledged nor queued, nor discarded by a person."""
        for delivery in self.deliveries:  # noqa: SIM110 - any() takes three times as long
            if not (delivery.required or delivery.settled):
                return True
        return False

    @property
    def reached(self) -> list[str]:
        """The names of the targets that have acknowledged."""
        return [delivery.target.name for delivery in self.deliveries if delivery.acknowledged]

    @property
    def lost(self) -> list[Delivery]:
        """Optional deliveries of a settled event that nobody tries again, as there is no memory."""
        if self.remembered or not self.settled:
            return []
        return [d for d in self.deliveries if not d.required and not d.acknowledged]

    @property
    def queued_but_required(self) -> list[Delivery]:
        """Deliveries that were queued when their targets were still optional."""
        if self.recalled.is_new:
            return []
        return [delivery for delivery in self.deliveries if delivery.is_queued_but_required]

    def update(self) -> None:
        """Take the results of the attempts that have ended."""
        for delivery in self.deliveries:
            delivery.update()

    def key_of(self, delivery: Delivery) -> DeliveryKey:
        """Return the key by which other requests find an attempt of this delivery."""
        return DeliveryKey(self.recalled.event_id, delivery.target.name, self.letter.digest)


class Memory:
    """The memory of requests. One per process; it owns the attempts in flight."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Whether there is a store to remember by, and its clock.
        self.remembers, self.now = store.remembers, store.now
        #: Attempts in flight, and those whose result the store does not have yet: see `hold`.
        self._attempts: dict[DeliveryKey, Flight] = {}
        #: The undecided requests, by body.
        self._live: dict[bytes, list[RequestMemory]] = {}
        #: `000`s given while the store could not be asked, for which no credit was revoked yet.
        self._blindly = 0
        #: Written once the store is back: those `000`s, by body, and when deliveries were
        #: acknowledged.
        self._blind_replies: dict[bytes, BlindReply] = {}
        self._acknowledged: dict[DeliveryKey, float] = {}
        #: How many of these were written, and how many found no room, since the last question.
        self._written_late = self._left_out = 0

    def may_join(self, recalled: RequestMemory) -> bool:
        """Return False if `to_join` finds nothing, which is usual, and cheaper to ask."""
        return bool(self._attempts) or recalled.released_meanwhile is not None

    def to_join(self, key: DeliveryKey, recalled: RequestMemory | None = None) -> Flight | None:
        """Return the attempt that a retry joins instead of repeating it (rule 9).

        It is in flight, or it was acknowledged and the retry may not have read that yet. After a
        failed attempt the retry makes one of its own.
        """
        flight = self._attempts.get(key)
        if flight is None and recalled is not None and recalled.released_meanwhile is not None:
            flight = recalled.released_meanwhile.get(key)
        if flight is None or not flight.is_over:
            return flight
        attempt = flight.value
        return flight if attempt is not None and attempt.acknowledged else None

    def follow(self, key: DeliveryKey, seconds: float) -> Flight:
        """Join an attempt at another process, for up to so many seconds (rule 16)."""
        return TargetExchange.by(asyncio.create_task(self._follow(key, seconds)), as_it_came)

    async def _follow(self, key: DeliveryKey, seconds: float) -> Attempt:
        """Return the result of another process's attempt once the store has it."""
        clock = asyncio.get_running_loop().time
        began = clock()
        reason = Reason.ELSEWHERE
        while (left := began + seconds - clock()) > 0:
            await asyncio.sleep(min(FOLLOW_PAUSE, left))
            try:
                records = await self._store.find(key.digest, FOLLOW_TIMEOUT)
            except StoreFailed:
                continue
            rows = [row for kept in records if kept.record.event_id == key.event_id
                    for row in kept.rows if row.target == key.target]  # fmt: skip
            if not any(row.is_being_sent(self.now()) for row in rows):
                # A person or another event may have settled it, for no reason of an attempt.
                words = {row.reason for row in rows}
                reason = next((each for each in Reason if each in words), reason)
                break
        return Attempt(reason, False, clock() - began)

    def is_claimed(self, event_id: str, digest: bytes) -> bool:
        """Return whether an undecided request of this process continues the event's record."""
        return any(
            recalled.record is not None and recalled.event_id == event_id
            for recalled in self._live.get(digest, ())
        )

    def hold(self, key: DeliveryKey, flight: Flight) -> None:
        """Let others join an attempt until `release`. There are four: a late attempt of a request
        and one that the queue may join, which the Forwarder releases, an attempt of the queue, and
        an acknowledgement that the store could not take, which is released once it is written."""
        self._attempts[key] = flight

    def release(self, key: DeliveryKey, flight: Flight) -> None:
        """The store has the result of this attempt: a look-up that begins now need not join it.

        A request for the same body whose look-up began earlier may have read the row as it was
        before, so it keeps the attempt. A later attempt at the same target stays.
        """
        if self._attempts.get(key) is flight:
            del self._attempts[key]
        for recalled in self._live.get(key.digest, ()):
            if recalled.released_meanwhile is None:
                recalled.released_meanwhile = {}
            recalled.released_meanwhile[key] = flight

    async def recall(self, letter: OutboundEvent, timeout: float) -> RequestMemory:
        """Look up this body: a claimed record (rule 4), or a new event (rule 2). Never raises
        StoreFailed.

        Call `leave` once the request is decided.
        """
        digest = letter.digest
        recalled = RequestMemory(letter, self.now(), new_id())
        self._live.setdefault(digest, []).append(recalled)
        try:
            records = await self._store.find(digest, timeout)
            if records or self._blindly:
                self._recognise(recalled, records)
        except StoreFailed as error:
            recalled.blind = recalled.must_supersede_later = True
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

    async def answer(self, outcome: Outcome, timeout: float) -> bool:
        """Commit all that has to be durable before the event gets its `000`; every required target
        has acknowledged (rules 2, 6 and 11).

        Nothing is written if nothing is left to remember. False if another process has ended the
        record. Raises StoreFailed.
        """
        recalled = outcome.recalled
        # A new event of which all is settled leaves nothing to remember.
        is_plain = (
            recalled.is_new and not recalled.other_event_ids and not outcome.has_optional_left
        )
        must_commit = self.remembers and not is_plain
        if must_commit and not await self._commit(outcome, timeout):
            return False
        if recalled.blind:
            self._blindly += 1
        if recalled.must_supersede_later:
            self._owe_blind_reply(outcome)
        # The other requests with this body can't tell their event from this one any more.
        for other in self._rivals(recalled):
            other.overtaken = True
        return True

    async def record(self, outcome: Outcome, timeout: float) -> bool:
        """Record a failed event for its caller's retry (rule 3), within `timeout` seconds.

        False if nothing is remembered, or the claim was lost. Raises StoreFailed.
        """
        if not self.remembers:
            return False
        recalled, clock = outcome.recalled, asyncio.get_running_loop().time
        ends = clock() + timeout
        # If one of these gets its `000`, it may have stood in for this event too.
        for other in self._rivals(recalled):
            other.other_event_ids = (*other.other_event_ids, recalled.event_id)
        now, overtaken = self.now(), recalled.overtaken
        if recalled.record is not None:
            left = rules.record_failed(
                recalled.record, now, outcome.terms, credit_revoked=overtaken
            )
        else:
            event_id, first_at = recalled.event_id, recalled.first_at
            left = rules.record_opened(
                event_id, first_at, now, outcome.terms, credit_revoked=overtaken
            )
        rows = self._changed_rows(outcome, left)
        try:
            kept = await self._keep(outcome, left, rows, timeout)
        except StoreFull as full:
            if not full.targets:
                raise
            # Without these rows it can still be recorded: the retry will call those targets again.
            rows = [row for row in rows if row.target not in full.targets]
            kept = await self._keep(outcome, left, rows, max(0.0, ends - clock()))
        if recalled.overtaken and not overtaken:
            more = max(0.0, ends - clock())
            await self._store.supersede([left.event_id], (), self.now(), more)
        return kept

    async def late(self, outcome: Outcome, delivery: Delivery, attempt: Attempt) -> None:
        """Write the result of an attempt that outlived its request if the event is kept; rule 9."""
        target = delivery.target.name
        recalled = outcome.recalled
        if not recalled.may_be_stored:
            return
        if not attempt.acknowledged:
            tried = Tried(attempt, request=recalled.requests)
            given = (recalled.event_id, target, tried, delivery.ends_by)
            await self._store.missed(*given, LATE_TIMEOUT)
        else:
            key = DeliveryKey(recalled.event_id, target, recalled.letter.digest)
            if not await self.acknowledge(key, attempt, LATE_TIMEOUT) and outcome.unrecorded:
                # A write that missed its timeout may still be carried out.
                self._owe(key, attempt, self.now())

    async def acknowledge(self, key: DeliveryKey, attempt: Attempt, timeout: float) -> bool:
        """Write that a delivery is acknowledged, whatever state its record has by now. Return False
        if the store does not have it.

        Raises StoreFailed; it is then written once the store is back.
        """
        now = self.now()
        try:
            return await self._store.acknowledge(key.event_id, key.target, now, timeout)
        except StoreFailed:
            self._owe(key, attempt, now)
            raise

    async def write_pending(self, timeout: float) -> None:
        """Write what an outage of the store has kept from being written (rule 13).

        Raises StoreFailed; what is written by then stays written.

        First revoke the credit of all that was recorded before the `000`s that were given blindly:
        until then every look-up counts as blind. Then write the acknowledgements.
        """
        clock = asyncio.get_running_loop().time
        ends = clock() + timeout
        blindly = self._blindly
        if blindly:
            await self._store.revoke_all_credit(timeout)
            self._blindly -= blindly
        while self._blind_replies:
            some = list(islice(self._blind_replies.items(), _STEP))
            await _all(self._write_blind_reply(*pair, ends - clock()) for pair in some)
        keys = iter(list(self._acknowledged))
        while some_keys := list(islice(keys, _STEP)):
            await _all(self._write_acknowledged(key, ends - clock()) for key in some_keys)

    def written_late(self) -> int:
        """Return how many pending acknowledgements were written since the last call."""
        written_late, self._written_late = self._written_late, 0
        return written_late

    def left_out(self) -> int:
        """Return how many never will be, for want of room, since the last call."""
        left_out, self._left_out = self._left_out, 0
        return left_out

    def _owe(self, key: DeliveryKey, attempt: Attempt, now: float) -> None:
        if len(self._acknowledged) >= MAX_OWED and key not in self._acknowledged:
            self._left_out += 1
            return
        self._acknowledged[key] = now
        # Retries join this until it is written. Not the attempt's own flight, which holds its body.
        flight: Flight = TargetExchange(as_it_came)
        flight.end(attempt)
        self.hold(key, flight)

    def _owe_blind_reply(self, outcome: Outcome) -> None:
        digest, reached = outcome.letter.digest, outcome.reached
        before = self._blind_replies.get(digest)
        if before is not None:
            reached += [name for name in before.reached if name not in reached]
        elif len(self._blind_replies) >= MAX_OWED:
            self._left_out += 1
            return
        event_id, now = outcome.recalled.event_id, self.now()
        self._blind_replies[digest] = BlindReply(event_id, tuple(reached), now)

    async def _write_blind_reply(self, digest: bytes, given: BlindReply, timeout: float) -> None:
        """Supersede the deliveries of this body's records that are older than the `000`."""
        records = await self._store.find(digest, timeout)
        ids = [kept.record.event_id for kept in records if kept.record.replied_at <= given.at]
        if ids:
            await self._store.supersede(ids, given.reached, self.now(), timeout, by=given.event_id)
            self._written_late += 1
        if self._blind_replies.get(digest) is given:
            del self._blind_replies[digest]

    async def _write_acknowledged(self, key: DeliveryKey, timeout: float) -> None:
        at = self._acknowledged[key]
        is_known = await self._store.acknowledge(key.event_id, key.target, at, timeout)
        self._written_late += is_known
        if not is_known and self.now() < at + UNKNOWN_FOR:
            return
        del self._acknowledged[key]
        flight = self._attempts.get(key)
        if flight is not None and flight.is_over:
            self.release(key, flight)

    def _recognise(self, recalled: RequestMemory, records: Sequence[Kept]) -> None:
        """Claim one of the records of this body, or none of them."""
        if self._blindly:
            # Their credit is in doubt, but a `000` makes them superfluous all the same.
            recalled.other_event_ids = tuple(kept.record.event_id for kept in records)
            recalled.blind = True
            recalled.cause = Cause.STORE
            return
        # Beside another request with this body nobody can tell which record is whose.
        alone = not self._rivals(recalled)
        claimed = rules.nearest(records, self.now()) if alone else None
        if alone and len(records) == 1:
            recalled.earlier = records[0].record
        if claimed is None:
            recalled.cause = rules.cause(records, alone=alone)
        else:
            recalled.claim(claimed)
        others = (kept.record.event_id for kept in records if kept is not claimed)
        recalled.other_event_ids = tuple(others)

    async def _commit(self, outcome: Outcome, timeout: float) -> bool:
        recalled, now = outcome.recalled, self.now()
        if recalled.record is not None:
            left = rules.record_closed(recalled.record, now)
            return await self._keep(outcome, left, self._changed_rows(outcome, left), timeout)
        if recalled.other_event_ids:
            timeout /= 2
        if outcome.has_optional_left:
            left = rules.record_answered(recalled.event_id, recalled.first_at, now)
            rows = rules.rows_after_request(outcome.deliveries, left, now, outcome.terms)
            unsettled = [row for row in rows if row.state is not State.ACKNOWLEDGED]
            await self._keep(outcome, left, unsettled, timeout)
        if recalled.other_event_ids:
            given = (recalled.other_event_ids, outcome.reached, self.now(), timeout)
            try:
                await self._store.supersede(*given, by=recalled.event_id)
            except StoreFailed:
                # The `000` need not wait for this: the credit is revoked another way.
                recalled.blind = recalled.must_supersede_later = True
        return True

    async def _keep(
        self, outcome: Outcome, left: Record, rows: Sequence[DeliveryRow], timeout: float
    ) -> bool:
        recalled = outcome.recalled
        if recalled.record is None:
            recalled.may_be_stored = is_written = True
            await self._store.add(left, recalled.letter, rows, timeout)
        else:
            digest, now = recalled.letter.digest, self.now()
            settlement = Settlement(left, rows, digest, outcome.reached, now)
            try:
                is_written = await self._store.settle(settlement, timeout)
            except StoreFailed:
                self._owe_rows(outcome)
                raise
        if is_written:
            recalled.dead = tuple(row for row in rows if row.state is State.DEAD)
        else:
            self._owe_rows(outcome)
        return is_written

    def _owe_rows(self, outcome: Outcome) -> None:
        """Keep the acknowledgements of a request whose record could not be written, or was closed
        or ended by another process, which does not know of them."""
        now = self.now()
        for delivery in outcome.deliveries:
            attempt = delivery.attempt
            if attempt is not None and attempt.acknowledged:
                self._owe(outcome.key_of(delivery), attempt, now)

    def _rivals(self, recalled: RequestMemory) -> list[RequestMemory]:
        """Return the other undecided requests with the same body."""
        live = self._live[recalled.letter.digest]
        return [other for other in live if other is not recalled] if len(live) > 1 else []

    def _changed_rows(self, outcome: Outcome, left: Record) -> list[DeliveryRow]:
        """Return every row that changes, those of targets that left the plan included."""
        rows = rules.rows_after_request(outcome.deliveries, left, self.now(), outcome.terms)
        plan = {delivery.target.name for delivery in outcome.deliveries}
        return rows + rules.left_behind(outcome.recalled.rows, plan, outcome.targets)


async def _all(writes: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all writes, then raise the first error."""
    for error in await asyncio.gather(*writes, return_exceptions=True):
        if error is not None:
            raise error
