"""Forwarder: sends an event to all its targets at once and decides on the reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from router.contract.replies import BUSY
from router.contract.schedule import Terms
from router.delivery.memory import Memory, Outcome
from router.delivery.rules import Delivery
from router.delivery.target.sender import AnySender, Flight, addressed
from router.model.event import OutboundEvent
from router.net.loops import Gone
from router.routing.table import Plan
from router.store.protocol import StoreFailed, StoreFull

#: How long a look-up and a claim may take, in seconds; then the event counts as a new one.
RECALL_TIME: Final = 0.5

#: The part of the reply's time that is kept for the store, and its maximum in seconds.
STORE_SHARE, STORE_TIME = 0.25, 1.0

#: Why an event is refused that the router would only be late for.
OVERLOADED: Final = "more events come than the router can keep up with"

#: How much longer than the required targets the optional ones may take, in seconds, before they
#: are queued. While all is well this saves the event a write.
OPTIONAL_EXTRA: Final = 0.05


class Countdown:
    """A wait until attempts have ended, a time has passed, or the caller has hung up."""

    def __init__(self, flights: Iterable[Flight | None]) -> None:
        """None and attempts that have ended do not count."""
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._left = 0
        for flight in flights:
            if flight is not None and not flight.is_over:
                self._left += 1
                flight.listen(self._ended)

    async def wait(self, seconds: float, gone: Gone) -> None:
        if not self._left:
            return
        timer = self._loop.call_later(max(seconds, 0.0), self._stop)
        gone.add_done_callback(self._stop)
        try:
            await self._over
        finally:
            gone.remove_done_callback(self._stop)
            timer.cancel()

    def _ended(self, _: Flight) -> None:
        self._left -= 1
        if not self._left:
            self._stop()

    def _stop(self, _: object = None) -> None:
        if not self._over.done():
            self._over.set_result(None)


class Forwarder:
    """Sends an event to every target that needs it, and waits until the reply is decided."""

    def __init__(
        self,
        sender: AnySender,
        memory: Memory,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._memory = memory
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
        """Call all targets at once; return once the reply is decided and all it needs is durable.

        The reply is decided when every required attempt has ended, at `deadline`, or when the
        caller is `gone`. No attempt begins for a caller that is gone already. One failure does not
        decide it: the reply would be the same, and a retry that overlaps the attempts still in
        flight would deliver twice. Attempts still in flight go on: see `wait_for_late_attempts`.

        Raises Refused, before anything is sent or written, if the router is overloaded.
        """
        recalled = await self._memory.recall(letter, RECALL_TIME)
        cause = "callback" if recalled.record is None else "retry"
        letter = addressed(letter, recalled.event_id, recalled.began_at, cause)
        remembered = self._memory.remembers
        outcome = Outcome(letter, plan, recalled, targets, terms, remembered=remembered)
        try:
            needed = [delivery.target for delivery in outcome.deliveries if delivery.needed]
            if not gone.done() and self._sender.is_swamped(needed):
                raise BUSY.refusal(OVERLOADED)
            # The store needs time before the deadline.
            share = (deadline - self._monotonic()) * STORE_SHARE if remembered else 0.0
            until = deadline - min(STORE_TIME, share)
            if not gone.done():
                self._start(outcome, until, gone)
            await self._wait(outcome, until, gone)
            outcome.update()
            for delivery in outcome.deliveries:
                flight = delivery.flight
                if flight is not None and not flight.is_over:
                    delivery.late = True
                    if not delivery.joined:  # for retries to join
                        self._memory.hold(outcome.key_of(delivery), flight)
            await self._commit_or_record(outcome, deadline, gone)
        finally:
            # `_start` keeps these for the queue to join; a late one is released by its own wait.
            for delivery in outcome.queued_but_required:
                if not delivery.late:
                    self._release(outcome, delivery)
            self._memory.leave(recalled)
        return outcome

    async def wait_for_late_attempts(self, outcome: Outcome) -> None:
        """Wait for the attempts that outlive the reply, and remember their results.

        Raises a fault of the router itself, if there was one.
        """
        late = [
            self._finish_late_attempt(outcome, delivery)
            for delivery in outcome.deliveries
            if delivery.late
        ]
        errors = await asyncio.gather(*late, return_exceptions=True) if late else ()
        for delivery in outcome.deliveries:
            # An attempt without a value raised: a fault of the router, which is raised again here.
            if delivery.attempt is None and delivery.flight is not None and not delivery.late:
                delivery.flight.result()
        for error in (*errors, outcome.fault):
            if isinstance(error, BaseException):
                raise error

    def _start(self, outcome: Outcome, until: float, gone: Gone) -> None:
        """Begin all attempts that are needed, or join those in flight."""
        memory, remembers, recalled = self._memory, self._memory.remembers, outcome.recalled
        queued = outcome.queued_but_required
        now = memory.now()
        patience = until - self._monotonic()
        for delivery in outcome.deliveries:
            if not delivery.needed:
                continue
            # A delivery that can be queued does not wait for its target's rate.
            waits = delivery.required or not remembers
            delivery.ends_by = now + delivery.target.timeout
            if waits and delivery.target.rate is not None:
                delivery.ends_by += patience
            flight, row = None, delivery.row
            if memory.may_join(recalled):
                flight = memory.to_join(outcome.key_of(delivery), recalled)
            if flight is None and row is not None and row.is_being_sent(now):
                flight = memory.follow(outcome.key_of(delivery), patience)
                delivery.ends_by = max(delivery.ends_by, row.recover_at)
            delivery.joined = flight is not None
            if flight is None:
                flight = self._sender.send(
                    delivery.target,
                    outcome.letter,
                    patience if waits else 0.0,
                    gone,
                    1 if row is None else row.attempts + 1,
                )
                if delivery in queued:
                    # The queue has it as well: if it takes the delivery now, it joins this attempt.
                    memory.hold(outcome.key_of(delivery), flight)
            delivery.flight = flight

    async def _wait(self, outcome: Outcome, until: float, gone: Gone) -> None:
        """Wait for all required attempts until then; after that a little for the optional ones, if
        that can save the event a write."""
        required = Countdown([d.flight for d in outcome.deliveries if d.required])
        await required.wait(until - self._monotonic(), gone)
        outcome.update()
        if self._memory.remembers and outcome.acknowledged and not gone.done():
            optional = Countdown([d.flight for d in outcome.deliveries if not d.required])
            await optional.wait(min(OPTIONAL_EXTRA, until - self._monotonic()), gone)

    def _release(self, outcome: Outcome, delivery: Delivery) -> None:
        """Release an attempt whose result is in the store. Not at once: the queue may have taken
        the delivery right before, and be about to look for the attempt."""
        flight = delivery.flight
        if flight is not None and not delivery.joined:
            release, key = self._memory.release, outcome.key_of(delivery)
            asyncio.get_running_loop().call_soon(release, key, flight)

    async def _commit_or_record(self, outcome: Outcome, deadline: float, gone: Gone) -> None:
        try:
            if outcome.acknowledged and not gone.done():
                try:
                    timeout = self._store_time(deadline)
                    outcome.settled = await self._memory.answer(outcome, timeout)
                except StoreFull:
                    outcome.unqueued = True
            if not outcome.settled:
                await self._memory.record(outcome, self._store_time(deadline))
        except StoreFailed as error:
            outcome.unrecorded = str(error)
        except Exception as error:  # noqa: BLE001 - its late attempts are waited for all the same
            outcome.fault = error

    def _store_time(self, deadline: float) -> float:
        """Return how long the store may take: a slow one does not delay a decided reply."""
        return min(max(deadline - self._monotonic(), 0.0), STORE_TIME)

    async def _finish_late_attempt(self, outcome: Outcome, delivery: Delivery) -> None:
        assert delivery.flight is not None
        try:
            attempt = delivery.attempt = await delivery.flight
            if not delivery.joined:
                await self._memory.late(outcome, delivery, attempt)
        except StoreFailed as error:
            outcome.unrecorded = str(error)
        finally:
            self._release(outcome, delivery)
