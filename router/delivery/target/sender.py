"""One attempt to one target: its place, and its headers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict
from functools import partial
from typing import Final
from urllib.parse import quote

from router.delivery.target.gate import BreakerState
from router.delivery.target.judge import judge
from router.delivery.target.lane import Lane, TargetWatcher, Turns
from router.model.event import Attempt, OutboundEvent, Reason
from router.net.loops import Gone
from router.routing.target import Target
from router.store.protocol import Pause
from router.telemetry.metrics import Metrics
from router.transport.engine import Answer, Engine, Failure, TargetExchange, as_it_came

#: The longest key, encoded, that is a header too: servers refuse heads beyond 8 KiB (nginx) or
#: 16 KiB (Node.js), and no event shall be undeliverable by its key. The body has it all the same.
MAX_KEY: Final = 4096

#: What percent-encoding leaves as it is (RFC 3986): most keys, and to see that is quick.
_UNRESERVED: Final = re.compile("[A-Za-z0-9._~-]*+")


#: An attempt in flight, from the decision to send it until what came of it is known.
Flight = TargetExchange[Attempt]


def addressed(letter: OutboundEvent, event_id: str) -> OutboundEvent:
    """The letter under this id, with the header lines that depend on no target and no attempt."""
    event, request_id = letter.event, letter.request_id
    traceparent, tracestate = letter.traceparent, letter.tracestate
    # Percent-encoded, so that no event can write a header of its own; the others are tokens.
    key = event.event_key
    if len(key) <= MAX_KEY and not _UNRESERVED.fullmatch(key):
        key = quote(key, safe="")
    lines = (
        "content-type: application/json\r\n"
        f"x-request-id: {request_id}\r\n"
        f"webhook-id: {event_id}\r\n"
    )
    if len(key) <= MAX_KEY:
        lines += f"x-ebaas-event-key: {key}\r\n"
    if traceparent:
        lines += f"traceparent: {traceparent}\r\n"
    if tracestate:
        lines += f"tracestate: {tracestate}\r\n"
    if letter.hops:
        lines += f"x-ebaas-hops: {letter.hops}\r\n"
    head, digest, hops = lines.encode("ascii"), letter.digest, letter.hops
    return OutboundEvent(event, digest, request_id, traceparent, tracestate, event_id, head, hops)


class Sender:
    """Sends to targets; each has connections and places of its own.

    `share` is the most requests that one target may hold, in flight and waiting together.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        engine: Engine,
        share: int,
        metrics: Metrics,
        watcher: TargetWatcher,
    ) -> None:
        self._engine = engine
        self._share = share
        self._metrics = metrics
        self._watcher = watcher
        self._lanes: dict[Target, Lane] = {}
        self._turns = Turns()
        #: Lanes of targets that are no longer in force, for the requests that started with them.
        self._leaving: dict[Target, Lane] = {}
        #: What people have paused, by target.
        self._pauses: dict[str, Pause] = {}
        #: The store's clock, less time.monotonic.
        self._ahead = 0.0
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Take these targets into force. One that stays keeps its connections and its places; one
        that goes is still there for requests that have it in their plan, until it is swept."""
        known = [*self._leaving.values(), *self._lanes.values()]
        before = {lane.target.name: lane for lane in known}
        lanes = {
            target: self._lanes.get(target)
            or self._leaving.pop(target, None)
            or self._new(target, before.get(target.name))
            for target in targets
        }
        for lane in lanes.values():
            lane.take_into_force()
        for target, lane in self._lanes.items():
            if target not in lanes:
                lane.was_idle = False
                self._leaving[target] = lane
        self._lanes = lanes

    async def sweep(self) -> None:
        """Close what targets no longer in force have left, once nothing of theirs is in flight.

        Only at the second sweep that finds a lane idle: a request that has it in its plan may be
        about to begin. Sweeps are further apart than that takes.
        """
        for target, lane in list(self._leaving.items()):
            was_idle, lane.was_idle = lane.was_idle, not lane.in_use
            # Another sweep, or a reload, may have come while this one was closing a pool.
            is_left = self._leaving.get(target) is lane
            if is_left and was_idle and lane.was_idle:
                del self._leaving[target]
                if all(lane.pool is not kept.pool for kept in self._every_lane()):
                    await lane.pool.close()

    def _every_lane(self) -> list[Lane]:
        return [*self._lanes.values(), *self._leaving.values()]

    def send(
        self,
        target: Target,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None = None,
    ) -> Flight:
        """Begin one attempt, which is over within the target's timeout. The letter is `addressed`.

        Where nothing is in its way the request leaves within this turn of the loop. Else it waits:
        for up to `patience` seconds for the target's rate, which its timeout does not count, and
        then for a place. Should `gone` be done meanwhile it is not begun. What is not begun has a
        reason of its own.
        """
        lane = self._lane(target)
        started = time.monotonic()
        if lane.take_free():
            return self._begin(lane, letter, started)
        refusal = lane.gate.refusal
        if refusal is not None:
            flight: Flight = TargetExchange(as_it_came)
            flight.end(self._refused(lane, refusal, started))
            return flight
        waiting = asyncio.create_task(self._send_in_turn(lane, letter, patience, gone))
        lane.line_up(waiting)
        return TargetExchange.by(waiting, as_it_came)

    def is_swamped(self, targets: Iterable[Target]) -> bool:
        """Whether one of the targets would get no attempt now because the router itself is too slow
        for all that comes: the target has had no time to answer.

        To be asked before each event is sent: this also measures the turns of the loop.
        """
        turn, now = self._turns.look(), time.monotonic()
        for target in targets:  # noqa: SIM110 - any() takes three times as long
            if self._lane(target).is_swamped(turn, now):
                return True
        return False

    def room(self, target: Target) -> int:
        """How many attempts of the queue could begin now, or after a short wait."""
        return self._lane(target).room()

    def hold(self, pauses: Collection[Pause], now: float) -> None:
        """These are the pauses in force now, on the store's clock; what they are about gets
        nothing until they are over, whether it is among the targets yet or not."""
        self._pauses = {pause.target: pause for pause in pauses}
        self._ahead = now - time.monotonic()
        for lane in self._every_lane():
            self._hold(lane)

    def _hold(self, lane: Lane) -> None:
        pause = self._pauses.get(lane.target.name)
        left = 0.0 if pause is None else pause.until - self._ahead - time.monotonic()
        lane.gate.hold(pause, left)

    def _new(self, target: Target, before: Lane | None) -> Lane:
        lane = Lane(target, self._engine, self._share, before, self._watcher)
        self._hold(lane)
        return lane

    def _lane(self, target: Target) -> Lane:
        """Of a target that was swept already, for who has waited that long, one more."""
        lane = self._lanes.get(target) or self._leaving.get(target)
        if lane is None:
            now = next((each for each in self._lanes if each.name == target.name), None)
            before = None if now is None else self._lanes[now]
            lane = self._new(target, before)
            self._leaving[target] = lane
        return lane

    async def _send_in_turn(
        self,
        lane: Lane,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None,
    ) -> Attempt:
        came = time.monotonic()
        if not await lane.pass_gate(patience, gone):
            return self._refused(lane, Reason.RATE_LIMITED, came)
        started = time.monotonic()
        refusal = await lane.take(gone)
        lane.step_out()
        if refusal is not None:
            return self._refused(lane, refusal, came)
        return await self._begin(lane, letter, started)

    def _refused(self, lane: Lane, reason: Reason, came: float) -> Attempt:
        """An attempt that is not begun."""
        waited = time.monotonic() - came
        attempt = Attempt(reason, delivered=False, seconds=waited, at=time.time())
        return self._counted(lane, attempt)

    def _begin(self, lane: Lane, letter: OutboundEvent, started: float) -> Flight:
        """Send to a target whose place is taken."""
        stamp, body = int(time.time()), letter.event.body
        lines = b"%bwebhook-timestamp: %d\r\n%b" % (letter.head, stamp, lane.lines)
        if lane.signer is not None:
            event_id = letter.event_id.encode("ascii")
            signature = lane.signer.sign(event_id, b"%d" % stamp, body)
            lines += b"webhook-signature: %b\r\n" % signature
        number, turn = lane.begin(started), lane.gate.begin()
        left = lane.target.timeout - (time.monotonic() - started)
        try:
            return lane.pool.post(
                lines, body, left, partial(self._end, lane, number, turn, started)
            )
        except Exception as error:  # noqa: BLE001 - it is this attempt's alone, and told of by it
            lane.give_back(number)
            lane.gate.end(turn, None)
            failed: Flight = TargetExchange(as_it_came)
            failed.fail(error)
            return failed

    def _end(
        self, lane: Lane, number: int, turn: int, started: float, result: Answer | Failure
    ) -> Attempt:
        """What an exchange has come to. It is over, and so its place is the next one's."""
        lane.give_back(number)
        if lane.line:
            self._turns.look()
        attempt = None
        try:
            attempt = judge(result, lane.target, time.monotonic() - started, time.time())
        finally:
            lane.gate.end(turn, attempt)
        return self._counted(lane, attempt)

    def _counted(self, lane: Lane, attempt: Attempt) -> Attempt:
        self._metrics.of(lane.target.name).attempt(attempt)
        # The usual one neither begins a streak of failures nor ends it.
        if lane.streak.since or not attempt.acknowledged:
            lane.heard(attempt)
        return attempt

    def measure(self) -> None:
        """Bring up to date what is read, not counted: attempts in flight and waiting."""
        for target, lane in self._lanes.items():
            numbers = self._metrics.of(target.name)
            numbers.in_flight, numbers.waiting = lane.places.taken, lane.places.waiting
            numbers.limit = lane.limit
            numbers.waiting_for_rate = lane.gate.waiting
            numbers.failing_since = lane.streak.since
            numbers.paused = int(lane.gate.is_paused)
            pause = lane.gate.pause
            numbers.pause = None if pause is None else asdict(pause)
            numbers.certificate_ends = target.tls.expires
            for state in BreakerState:
                numbers.breaker[state] = int(state is lane.gate.state)

    async def close(self) -> None:
        """Close all connections; attempts in flight end as `stopped`."""
        for lane in self._every_lane():
            await lane.pool.close()
