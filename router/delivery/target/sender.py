"""Sender: makes one attempt at one target, with its slot and its headers; pauses of targets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from router.delivery.target.gate import BreakerState, Failing
from router.delivery.target.judge import judge
from router.delivery.target.lane import Lane, Turns
from router.model.event import Attempt, OutboundEvent, Reason
from router.net.loops import Gone
from router.routing.target import Target
from router.store.protocol import Pause, Store, StoreFailed
from router.telemetry.log.lines import stamp
from router.telemetry.metrics import Metrics
from router.transport.engine import Answer, Engine, Failure, TargetExchange, as_it_came

if TYPE_CHECKING:
    from router.telemetry.spans import Spans

#: The longest key, encoded, that is a header too: servers refuse heads beyond 8 KiB (nginx) or
#: 16 KiB (Node.js), and no event shall be undeliverable by its key. The body always has it.
MAX_KEY: Final = 4096

#: The characters that percent-encoding keeps (RFC 3986): most keys have no others.
_UNRESERVED: Final = re.compile("[A-Za-z0-9._~-]*+")

#: How often the store is asked for pauses, and how long it may take to answer, in seconds.
PAUSES_EVERY, PAUSES_TIMEOUT = 0.5, 5.0

#: An attempt, from the decision to send it until its result is known.
Flight = TargetExchange[Attempt]


def addressed(
    letter: OutboundEvent, event_id: str, first_at: float, cause: str = "callback"
) -> OutboundEvent:
    """Return the event under this id, with the header lines that are the same for all targets.

    `first_at` is Unix time; `cause` is `callback`, `retry`, `queue`, `recovery` or `replay`."""
    event, request_id = letter.event, letter.request_id
    traceparent, tracestate, hops = letter.traceparent, letter.tracestate, letter.hops
    # Percent-encoded, so that no event can write a header of its own; the others are tokens.
    key = event.event_key
    if len(key) <= MAX_KEY and not _UNRESERVED.fullmatch(key):
        key = quote(key, safe="")
    lines = (
        "content-type: application/json\r\n"
        f"x-request-id: {request_id}\r\n"
        f"webhook-id: {event_id}\r\n"
        f"x-ebaas-first-at: {stamp(first_at)}\r\n"
        f"x-ebaas-cause: {cause}\r\n"
    )
    if len(key) <= MAX_KEY:
        lines += f"x-ebaas-event-key: {key}\r\n"
    if traceparent:
        lines += f"traceparent: {traceparent}\r\n"
    if tracestate:
        lines += f"tracestate: {tracestate}\r\n"
    if hops:
        lines += f"x-ebaas-hops: {hops}\r\n"
    return OutboundEvent(
        *(event, letter.digest, request_id, traceparent, tracestate),
        *(event_id, lines.encode("ascii"), hops, first_at, cause),
    )


class AnySender(Protocol):
    """A Sender, or the simulated one that the model of the delivery memory searches with."""

    def send(
        self,
        target: Target,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None = None,
        attempt: int = 1,
    ) -> Flight: ...
    def is_swamped(self, targets: Iterable[Target]) -> bool: ...
    def room(self, target: Target, within: float, *, keeps_burst: bool = False) -> int: ...
    def sign_of_life(self, target: Target) -> str: ...


class TargetWatcher(Protocol):
    """Receives all that changes about a target, for logs and metrics."""

    def breaker(self, target: Target, state: BreakerState) -> None: ...
    def failing(self, target: Target, failing: Failing) -> None: ...
    def paused(self, pause: Pause) -> None: ...
    def resumed(self, pause: Pause) -> None: ...


class Sender:
    """Sends to targets, each by its lane.

    `share` is the most requests that one target may hold, in flight and waiting together.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        engine: Engine,
        share: int,
        metrics: Metrics,
        watcher: TargetWatcher,
        spans: Spans | None = None,
    ) -> None:
        """With `spans` every attempt has a span, and carries it as its trace context."""
        self._engine = engine
        self._share = share
        self._metrics = metrics
        self._watcher = watcher
        self._spans = spans
        #: Lanes of the targets in force, by name.
        self._lanes: dict[str, Lane] = {}
        self._turns = Turns()
        #: Lanes of targets that are no longer in force, for the requests that started with them.
        self._leaving: dict[Target, Lane] = {}
        #: The pauses that people have set, by target.
        self._pauses: dict[str, Pause] = {}
        #: The time on the store's clock minus time.monotonic.
        self._clock_offset = 0.0
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Take these targets into force. A target that stays keeps its connections and its slots;
        one that goes remains for the requests that have it in their plan, until it is swept."""
        before = {lane.target.name: lane for lane in self._every_lane()}
        lanes = dict[str, Lane]()
        for target in targets:
            lane = self._lanes.get(target.name)
            if lane is None or lane.target != target:
                lane = self._leaving.pop(target, None) or self._new(target, before.get(target.name))
            lane.target = target
            was = before.get(target.name)
            if was is not None and was.target.paused and not target.paused:
                lane.streak.sign_of_life = "pause_ended"
            lanes[target.name] = lane
        for lane in lanes.values():
            lane.slots.resize(*lane.size)
            lane.gate.take_effect()
        for name, lane in self._lanes.items():
            if lanes.get(name) is not lane:
                lane.was_idle = False
                self._leaving[lane.target] = lane
        self._lanes = lanes

    async def sweep(self) -> None:
        """Close the pools of targets no longer in force, once nothing of theirs is in flight.

        Only at the second sweep that finds a lane idle: a request that has it in its plan may be
        about to begin. Sweeps are further apart than that takes.
        """
        for target, lane in list(self._leaving.items()):
            was_idle, lane.was_idle = lane.was_idle, not lane.in_use
            # Another sweep or a reload may have come while this one closed a pool.
            is_left = self._leaving.get(target) is lane
            if is_left and was_idle and lane.was_idle:
                del self._leaving[target]
                if all(lane.pool is not kept.pool for kept in self._every_lane()):
                    await lane.pool.close()

    def _every_lane(self) -> list[Lane]:
        return [*self._leaving.values(), *self._lanes.values()]

    def send(
        self,
        target: Target,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None = None,
        attempt: int = 1,
    ) -> Flight:
        """Begin one attempt, which is over within the target's timeout. `letter` is `addressed`,
        and `attempt` is the number of this one among all that the target has had of the event.

        If the gate is open and a slot is free, the request leaves within this turn of the loop.
        Otherwise it waits up to `patience` seconds for the target's rate, which its timeout does
        not count, and then for a slot; it is not begun if the caller is `gone` by then. The
        attempt's reason says why it was not begun.
        """
        end_span = None
        if self._spans is not None:
            letter, end_span = self._spans.attempt(target.name, target.public_url, letter)
            letter = addressed(letter, letter.event_id, letter.first_at, letter.cause)
        lane = self._lane(target)
        started = time.monotonic()
        if lane.take_free():
            flight = self._begin(lane, letter, started, attempt)
        elif (refusal := lane.gate.refusal) is not None:
            flight = TargetExchange(as_it_came)
            flight.end(self._refused(lane, refusal, started))
        else:
            waiting = asyncio.create_task(self._send_in_turn(lane, letter, patience, gone, attempt))
            lane.add_waiting(waiting)
            flight = TargetExchange.by(waiting, as_it_came)
        if end_span is not None:
            flight.listen(end_span)
        return flight

    def is_swamped(self, targets: Iterable[Target]) -> bool:
        """Return whether the router itself is too slow for one of these targets to get an attempt
        now: the target has had no time to answer.

        Call it before each event is sent, since it also measures the turns of the loop.
        """
        turn, now = self._turns.look(), time.monotonic()
        for target in targets:  # noqa: SIM110 - any() takes three times as long
            if self._lane(target).is_swamped(turn, now):
                return True
        return False

    def room(self, target: Target, within: float, *, keeps_burst: bool = False) -> int:
        """Return how many attempts could begin within so many seconds; with `keeps_burst`, without
        the burst of the target's rate, which is left to live events."""
        return self._lane(target).room(within, keeps_burst=keeps_burst)

    def sign_of_life(self, target: Target) -> str:
        """Return the last sign that a target works; `""` if there is none since its last failure,
        or if no attempt may begin."""
        lane = self._lane(target)
        return "" if lane.gate.refusal is not None else lane.streak.sign_of_life

    async def follow_pauses(self, store: Store) -> None:
        """Apply the pauses in the store again and again, until it is cancelled."""
        while True:
            await self.read_pauses(store)
            await asyncio.sleep(PAUSES_EVERY)

    async def read_pauses(self, store: Store) -> None:
        """Apply the pauses in the store. While the store is away, the known pauses go on. They hold
        for targets that a later reload brings, too."""
        known = before = self._pauses
        with suppress(StoreFailed):
            pauses = await store.pauses(PAUSES_TIMEOUT)
            known = {pause.target: pause for pause in pauses}
        now = store.now()
        in_force = self._pauses = {n: pause for n, pause in known.items() if pause.until > now}
        self._clock_offset = now - time.monotonic()
        for lane in self._every_lane():
            self._apply_pause(lane)
        for name, pause in before.items():
            if name not in in_force:
                if name in self._lanes:
                    self._lanes[name].streak.sign_of_life = "pause_ended"
                self._watcher.resumed(known.get(name, pause))
        for name, pause in in_force.items():
            if pause != before.get(name):
                self._watcher.paused(pause)

    def _apply_pause(self, lane: Lane) -> Lane:
        pause = self._pauses.get(lane.target.name)
        left = 0.0 if pause is None else pause.until - self._clock_offset - time.monotonic()
        lane.gate.apply_pause(pause, left)
        return lane

    def _new(self, target: Target, before: Lane | None) -> Lane:
        return self._apply_pause(
            Lane(target, self._engine, self._share, before, self._breaker_changed)
        )

    def _breaker_changed(self, target: Target, state: BreakerState) -> None:
        if state is BreakerState.CLOSED:
            self._lane(target).streak.sign_of_life = "breaker_closed"
        self._watcher.breaker(target, state)

    def _lane(self, target: Target) -> Lane:
        lane = self._lanes.get(target.name)
        if lane is not None and (lane.target is target or lane.target == target):
            return lane
        left = self._leaving.get(target)
        if left is None:  # swept already, although a request has waited that long
            left = self._leaving[target] = self._new(target, lane)
        return left

    async def _send_in_turn(
        self,
        lane: Lane,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None,
        attempt: int,
    ) -> Attempt:
        came = time.monotonic()
        if not await lane.pass_gate(patience, gone):
            return self._refused(lane, Reason.RATE_LIMITED, came)
        started = time.monotonic()
        refusal = await lane.wait_for_slot(gone)
        lane.stop_waiting()
        if refusal is not None:
            return self._refused(lane, refusal, came)
        return await self._begin(lane, letter, started, attempt)

    def _refused(self, lane: Lane, reason: Reason, came: float) -> Attempt:
        """Return the attempt that is not begun."""
        waited = time.monotonic() - came
        attempt = Attempt(reason, delivered=False, seconds=waited, at=time.time())
        return self._counted(lane, attempt)

    def _begin(self, lane: Lane, letter: OutboundEvent, started: float, attempt: int) -> Flight:
        """Send to a target whose slot is taken and whose gate is open."""
        now, body = int(time.time()), letter.event.body
        lines = b"%bx-ebaas-attempt: %d\r\nwebhook-timestamp: %d\r\n%b" % (
            *(letter.head, attempt, now, lane.header_lines),
        )
        if lane.signer is not None:
            event_id = letter.event_id.encode("ascii")
            signature = lane.signer.sign(event_id, b"%d" % now, body)
            lines += b"webhook-signature: %b\r\n" % signature
        number, breaker = lane.begin(started), lane.gate.breaker
        epoch = 0 if breaker is None else breaker.begin()
        assert epoch is not None
        left = lane.target.timeout - (time.monotonic() - started)
        try:
            return lane.pool.post(
                lines, body, left, partial(self._end, lane, number, epoch, started)
            )
        except Exception as error:  # noqa: BLE001 - it is this attempt's alone, which raises it
            lane.give_back(number)
            lane.gate.end(epoch, None)
            failed: Flight = TargetExchange(as_it_came)
            failed.fail(error)
            return failed

    def _end(
        self, lane: Lane, number: int, epoch: int, started: float, result: Answer | Failure
    ) -> Attempt:
        """Judge an exchange that has ended, and free its slot for the next."""
        lane.give_back(number)
        if lane.slots.tasks:
            self._turns.look()
        attempt = None
        try:
            attempt = judge(result, lane.target, time.monotonic() - started, time.time())
        finally:
            if lane.gate.breaker is not None:
                lane.gate.end(epoch, attempt)
        return self._counted(lane, attempt)

    def _counted(self, lane: Lane, attempt: Attempt) -> Attempt:
        self._metrics.of(lane.target.name).attempt(attempt)
        # The usual one neither begins a streak of failures nor ends it.
        streak = lane.streak
        if not attempt.acknowledged or streak.since or not streak.sign_of_life:
            failing = streak.add(attempt, attempt.at)
            if failing is not None:
                self._watcher.failing(lane.target, failing)
        return attempt

    def measure(self) -> None:
        """Update the metrics that are read and not counted: attempts in flight and waiting."""
        for name, lane in self._lanes.items():
            numbers, gate = self._metrics.of(name), lane.gate
            numbers.in_flight, numbers.waiting = lane.slots.taken, lane.slots.waiting
            numbers.limit = lane.limit
            numbers.waiting_for_rate = 0 if gate.pace is None else gate.pace.waiting
            numbers.paused = int(gate.is_paused)
            numbers.pause = None if gate.pause is None else asdict(gate.pause)
            numbers.certificate_ends = lane.target.tls.expires
            for state in BreakerState:
                numbers.breaker[state] = int(state is gate.state)

    async def close(self) -> None:
        """Close all connections; attempts in flight end as `stopped`."""
        for lane in self._every_lane():
            await lane.pool.close()
