"""Forwarder: sends an event to all its targets at once and decides on the reply."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from router.contract.replies import BUSY
from router.contract.schedule import Terms
from router.delivery.memory import Account, DeliveryKey, Memory, RequestMemory
from router.delivery.rules import Delivery
from router.delivery.target.sender import Flight, addressed
from router.model.errors import Refused
from router.model.event import OutboundEvent
from router.net.loops import Gone
from router.routing.table import Plan
from router.routing.target import Target
from router.store.protocol import StoreFailed, StoreFull


class Decision:
    """What one request waits for, counted in the moment that each attempt ends.

        required in flight ──► optional in flight ──► made
                    └── a failure, a deadline, gone ───►

    It is made once; what ends later changes nothing.
    """

    def __init__(
        self,
        patience: float,
        is_worth_waiting: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Once every required attempt has ended, and if it `is_worth_waiting` then, the optional
        ones have `patience` seconds more."""
        self._loop = asyncio.get_running_loop()
        self._monotonic = monotonic
        self._patience = patience
        self._is_worth_waiting = is_worth_waiting
        #: Attempts in flight.
        self._required = self._optional = 0
        self._made: asyncio.Future[None] = self._loop.create_future()
        #: When it is made at the latest, and what sees to that.
        self._until = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, flight: Flight, *, required: bool) -> None:
        """Count on an attempt that has begun."""
        if flight.is_over:
            return
        if required:
            self._required += 1
            flight.listen(self._required_ended)
        else:
            self._optional += 1
            flight.listen(self._optional_ended)

    async def made(self, until: float, gone: Gone) -> None:
        """Return once it is made: at `until` at the latest, and at once when `gone` is done."""
        self._set(until)
        gone.add_done_callback(self.make)
        try:
            if not self._required:
                self._look_at_optional()
            await self._made
        finally:
            gone.remove_done_callback(self.make)
            self._until = -math.inf  # what ends later sets no timer
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def make(self, _: object = None) -> None:
        """Wait no longer."""
        if not self._made.done():
            self._made.set_result(None)

    def _required_ended(self, _: Flight) -> None:
        self._required -= 1
        if not self._required:
            self._look_at_optional()

    def _optional_ended(self, _: Flight) -> None:
        self._optional -= 1
        if not self._optional and not self._required:
            self.make()

    def _look_at_optional(self) -> None:
        """Every required attempt has ended."""
        if self._optional and self._patience and self._is_worth_waiting():
            self._set(self._monotonic() + self._patience)
        else:
            self.make()

    def _set(self, until: float) -> None:
        """Have it made then, if it would not be before."""
        if until < self._until:
            self._until = until
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(until - self._monotonic(), 0.0), self.make)


#: How long a look-up and a claim may take, in seconds; then the event is taken for a new one.
RECALL_TIME: Final = 0.5

#: The part of the time for the reply that is kept for the store, and the most it gets in seconds.
STORE_SHARE, STORE_TIME = 0.25, 1.0

#: Why an event is refused that the router would only be late for.
OVERLOADED: Final = "more events come than the router can keep up with"

#: How much longer than the required targets the optional ones may take, in seconds, before they
#: are queued: where all is well that saves a write for the event.
OPTIONAL_EXTRA: Final = 0.05


class Sends(Protocol):
    """The part of a Sender that a request needs."""

    def send(
        self,
        target: Target,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None = None,
    ) -> Flight: ...

    def is_swamped(self, targets: Iterable[Target]) -> bool:
        """Whether the router itself is too slow for one of them to get an attempt now."""
        ...


class Outcome:
    """How one request went: all its deliveries, taken together."""

    def __init__(
        self, letter: OutboundEvent, plan: Plan, recalled: RequestMemory, *, remembered: bool
    ) -> None:
        self.letter = letter
        self.recalled = recalled
        #: Whether there is a memory at all.
        self.remembered = remembered
        row_of = recalled.rows.get
        self.deliveries = [
            *[Delivery(target, True, row_of(target.name)) for target in plan.required],
            *[Delivery(target, False, row_of(target.name)) for target in plan.optional],
        ]
        #: The event may get its `000`: what the reply is made of.
        self.settled = False
        #: An optional delivery found no room in the store, which is why the reply is a failure.
        self.unqueued = False
        #: Why nothing is remembered of it though it should be; `""` where all is well.
        self.unrecorded = ""
        #: What went wrong in the router itself while the reply was decided.
        self.fault: Exception | None = None

    @property
    def acknowledged(self) -> bool:
        """Every required target has acknowledged; without that there is no `000`."""
        for delivery in self.deliveries:  # all() takes three times as long
            if delivery.required and not delivery.acknowledged:
                return False
        return True

    @property
    def lost(self) -> list[Delivery]:
        """The optional deliveries of an event with its `000` that nobody tries again, once all is
        over: with no memory."""
        if self.remembered or not self.settled:
            return []
        return [d for d in self.deliveries if not d.required and not d.acknowledged]

    @property
    def have_become_required(self) -> list[Delivery]:
        """Those that were queued for a target that was optional then."""
        if self.recalled.is_new:
            return []
        return [delivery for delivery in self.deliveries if delivery.has_become_required]

    def look(self) -> None:
        """See which attempts have ended, and how."""
        for delivery in self.deliveries:
            delivery.look()

    def looks_acknowledged(self) -> bool:
        """Whether every required target has acknowledged by now."""
        self.look()
        return self.acknowledged

    def key_of(self, delivery: Delivery) -> DeliveryKey:
        """Return the key by which other requests find an attempt of this delivery."""
        return DeliveryKey(self.letter.event_id, delivery.target.name, self.letter.digest)


class Forwarder:
    """Sends an event to every target that needs it, and waits until the reply is decided."""

    def __init__(
        self,
        sender: Sends,
        memory: Memory,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._memory = memory
        #: The store's clock.
        self._now = now
        self._monotonic = monotonic

    async def forward(
        self,
        letter: OutboundEvent,
        plan: Plan,
        targets: Collection[str],
        terms: Terms,
        deadline: float,
        gone: Gone,
    ) -> Outcome:
        """All targets at once; returns as soon as the reply is decided and what it needs durable.

        That is when every required attempt has ended, or at `deadline`, or once the caller is
        `gone`: for one that is gone already no attempt is begun. One failure does not end it: the
        reply would not be another, and a retry that overlaps the attempts still in flight would
        deliver twice. What is in flight then runs on: see it through.

        Raises Refused, before anything is sent or written, where the router is too slow for all
        that comes.
        """
        recalled = await self._memory.recall(letter, RECALL_TIME)
        letter = addressed(letter, recalled.event_id)
        outcome = Outcome(letter, plan, recalled, remembered=self._memory.remembers)
        try:
            wanted = [delivery.target for delivery in outcome.deliveries if delivery.wanted]
            if not gone.done() and self._sender.is_swamped(wanted):
                raise Refused(BUSY.code, BUSY.msg, OVERLOADED)
            until = self._until(deadline)
            decision = self._start(outcome, until, gone)
            if decision is not None:
                await decision.made(until, gone)
            outcome.look()
            self._let_run(outcome)
            account = Account(outcome.deliveries, targets, terms)
            await self._settle(outcome, account, deadline, gone)
        finally:
            for delivery in outcome.have_become_required:
                if not delivery.late:
                    self._release(outcome, delivery)
            self._memory.leave(recalled)
        return outcome

    async def wait_for_late_attempts(self, outcome: Outcome) -> None:
        """Wait for the attempts that outlive the reply, and remember what they achieve.

        Raises what went wrong in the router itself, if anything did.
        """
        late = [
            self._wait_for_late_attempt(outcome, each) for each in outcome.deliveries if each.late
        ]
        errors = await asyncio.gather(*late, return_exceptions=True) if late else ()
        for delivery in outcome.deliveries:
            if delivery.attempt is None and delivery.flight is not None and not delivery.late:
                delivery.flight.result()
        for error in (*errors, outcome.fault):
            if isinstance(error, BaseException):
                raise error

    def _until(self, deadline: float) -> float:
        """When the reply is decided at the latest: what it needs durable takes time as well."""
        if not self._memory.remembers:
            return deadline
        return deadline - min(STORE_TIME, (deadline - self._monotonic()) * STORE_SHARE)

    def _start(self, outcome: Outcome, until: float, gone: Gone) -> Decision | None:
        """Begin all attempts; what is decided by them. None for a caller that is gone."""
        if gone.done():
            return None
        memory, remembers, recalled = self._memory, self._memory.remembers, outcome.recalled
        extra = OPTIONAL_EXTRA if remembers else 0.0
        decision = Decision(extra, outcome.looks_acknowledged, self._monotonic)
        queued = outcome.have_become_required
        now = self._now()
        patience = until - self._monotonic()
        for delivery in outcome.deliveries:
            if not delivery.wanted:
                continue
            delivery.over_at = now + delivery.target.timeout
            flight = None
            if memory.attempts or recalled.just_ended is not None:
                flight = memory.to_join(outcome.key_of(delivery), recalled)
            delivery.joined = flight is not None
            if flight is None:
                # One that can be queued holds no request up for its target's rate.
                waits = delivery.required or not remembers
                flight = self._sender.send(
                    delivery.target, outcome.letter, patience if waits else 0.0, gone
                )
                if delivery in queued:
                    # The queue has it as well: should it come to it now, it joins this one.
                    memory.attempts[outcome.key_of(delivery)] = flight
            delivery.flight = flight
            decision.watch(flight, required=delivery.required)
        return decision

    def _let_run(self, outcome: Outcome) -> None:
        """What is still in flight: a retry that comes meanwhile will join it."""
        for delivery in outcome.deliveries:
            flight = delivery.flight
            if flight is not None and not flight.is_over:
                delivery.late = True
                if not delivery.joined:
                    self._memory.attempts[outcome.key_of(delivery)] = flight

    def _release(self, outcome: Outcome, delivery: Delivery) -> None:
        """What came of the attempt is in the store: nobody has to join it any more. Not at once,
        for the queue may have taken the delivery right before, and be about to look for it."""
        flight = delivery.flight
        if flight is not None and not delivery.joined:
            release, key = self._memory.release, outcome.key_of(delivery)
            asyncio.get_running_loop().call_soon(release, key, flight)

    async def _settle(
        self, outcome: Outcome, account: Account, deadline: float, gone: Gone
    ) -> None:
        memory, recalled = self._memory, outcome.recalled
        try:
            if outcome.acknowledged and not gone.done():
                try:
                    timeout = self._store_time(deadline)
                    outcome.settled = await memory.answer(recalled, account, timeout)
                except StoreFull:
                    outcome.unqueued = True
            if not outcome.settled:
                await memory.record(recalled, account, self._store_time(deadline))
        except StoreFailed as error:
            outcome.unrecorded = str(error)
        except Exception as error:  # noqa: BLE001 - its attempts are seen through all the same
            outcome.fault = error

    def _store_time(self, deadline: float) -> float:
        """What the store may take now: a slow one does not keep a decided reply back."""
        return min(max(deadline - self._monotonic(), 0.0), STORE_TIME)

    async def _wait_for_late_attempt(self, outcome: Outcome, delivery: Delivery) -> None:
        assert delivery.flight is not None
        try:
            attempt = delivery.attempt = await delivery.flight
            if not delivery.joined:
                await self._memory.late(outcome.recalled, delivery.target.name, attempt)
        except StoreFailed as error:
            outcome.unrecorded = str(error)
        finally:
            self._release(outcome, delivery)
