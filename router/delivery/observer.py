"""What happened, told once and in one place: each event's line, what becomes of it later, and what
is counted of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from router.archive.writer import Archive
from router.contract.schedule import Terms
from router.delivery.forwarder import Outcome
from router.delivery.happenings import Happenings
from router.delivery.memory import MAX_OWED
from router.delivery.queue import Retry
from router.delivery.rules import Delivery
from router.delivery.target.gate import BreakerState, Failing
from router.model.errors import Refused
from router.model.event import SUCCESS, Attempt, Event
from router.routing.table import Plan
from router.routing.target import Target
from router.store.protocol import ADVICE, UNSETTLED, Ended, Pause, State, StoreFailed, Usage
from router.telemetry.lag import Alarm
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.log.lines import Level, utc
from router.telemetry.metrics import Metrics

#: The longest id that a line has, in characters.
_MAX_ID: Final = 64

#: In a larger body, in bytes, an id that is an object is not looked into.
_MAX_SHOWN: Final = 16 * 1024


class ReplyInfo:
    """What a caller was told."""

    __slots__ = ("code", "request_id", "seconds")

    def __init__(self, request_id: str, code: str, seconds: float) -> None:
        self.request_id = request_id
        #: The contract's code; `""` where the caller was gone.
        self.code = code
        #: From the request's first byte until the reply.
        self.seconds = seconds

    @property
    def fields(self) -> dict[str, Any]:
        return {"code": self.code, "ms": _ms(self.seconds), "request_id": self.request_id}


class Observer:
    """Tells the log and the metrics. It watches the queue, the targets and the pauses as well."""

    def __init__(
        self,
        log: Log,
        metrics: Metrics,
        happenings: Happenings,
        archive: Archive | None = None,
        *,
        traced: bool = False,
    ) -> None:
        """`traced`: whether a letter's trace context is a span of the router's own."""
        self._traced = traced
        self._log = log
        self._archive = archive
        self._happenings = happenings
        self._metrics = metrics
        self._alarm = Alarm()

    # Requests.

    def refused(self, told: ReplyInfo, error: Refused) -> None:
        """A request that is no callback, or a callback that the contract does not allow."""
        self._metrics.refuse(told.code)
        if told.code == "400":
            self._metrics.invalid_at(error.field)
        caller = {"caller": error.caller} if error.caller else {}
        self._log.warning("refused", **told.fields, why=str(error), **caller)

    def hung_up(self, request_id: str) -> None:
        """A caller that went away before its request was whole."""
        self._metrics.hung_up += 1
        self._log.warning("hung_up", request_id=request_id)

    def unmatched(self, told: ReplyInfo, event: Event) -> None:
        """An event that no route matches."""
        self._metrics.no_route(told.code, event)
        self._metrics.event(told.code, told.seconds)
        fields = told.fields
        self._add_event(fields, event)
        self._keep("warning", "unmatched", fields, event.body)

    def fault(self, request_id: str, error: BaseException) -> None:
        """A fault of the router's own."""
        self._metrics.faults += 1
        self._log.error("fault", request_id=request_id, at=place_of(error))

    def event(self, told: ReplyInfo, plan: Plan, outcome: Outcome, terms: Terms) -> None:
        """An event whose last attempt has ended; with no memory, what it has lost as well."""
        self._metrics.event(told.code, told.seconds)
        self._count_memory(outcome)
        letter, fields = outcome.letter, told.fields
        fields["event_id"] = letter.event_id
        if outcome.remembered:
            _add_memory(fields, outcome, terms)
        fields["targets"] = {d.target.name: _delivery_fields(d) for d in outcome.deliveries}
        fields["routes"] = [route.name for route in plan.routes]
        event = letter.event
        self._add_event(fields, event)
        if letter.hops:
            fields["hops"] = letter.hops
        fields["body"] = letter.digest[:6].hex()
        if letter.traceparent:
            fields["trace_id"] = letter.traceparent[3:35]
            if self._traced:
                fields["span_id"] = letter.traceparent[36:52]
        lost = outcome.lost
        self._keep(_level(told.code, lost), "event", fields, event.body)
        for delivery in lost:
            target = delivery.target
            self._metrics.of(target.name).lost += 1
            about = {"event_id": letter.event_id, "target": target.name, "owner": target.owner}
            self._keep("error", "lost", about)
        recalled = outcome.recalled
        if recalled.dead:
            dead = {row.target: row.reason for row in recalled.dead}
            self._dead_letters(Ended(letter.event_id, event.event_key, recalled.requests, dead))

    def _add_event(self, fields: dict[str, Any], event: Event) -> None:
        fields["event_key"] = event.event_key
        fields["event_source"] = event.event_source
        fields["event_topic"] = event.event_topic
        fields["event_type"] = event.event_type
        fields["event_status"] = event.event_status
        fields["bytes"] = len(event.body)
        if event.event_key != event.derived_key:
            fields["derived_key"] = event.derived_key
        if event.changes:
            fields["changes"] = [_id(change, event) for change in event.changes]

    def _count_memory(self, outcome: Outcome) -> None:
        metrics, recalled = self._metrics, outcome.recalled
        if not recalled.is_new:
            metrics.claims += 1
            for delivery in outcome.deliveries:
                if delivery.spared:
                    metrics.of(delivery.target.name).avoided += 1
        if recalled.cause is not None:
            metrics.repeats[recalled.cause] += 1
        if outcome.unrecorded:
            metrics.unrecorded[outcome.unrecorded] += 1
        metrics.unqueued += outcome.unqueued
        for error in (recalled.trouble, outcome.unrecorded):
            if error:
                metrics.store_failed(error)

    def _dead_letters(self, of: Ended) -> None:
        fields = {"event_id": of.event_id, "event_key": of.event_key, "requests": of.requests}
        for target, reason in of.dead.items():
            self._metrics.of(target).dead_letters[reason or "unknown"] += 1
            self._keep("error", "dead_letter", {"target": target, "reason": reason, **fields})
            self._happenings.dead(target, reason, of.event_id, of.event_key)

    def _keep(
        self, level: Level, happening: str, fields: dict[str, Any], body: bytes = b""
    ) -> None:
        """Tell what is about one event: in the log, and in the archive, which has its body too."""
        line = self._log.write(level, happening, fields, body)
        if self._archive is not None:
            self._archive.put(level, happening, fields, line, body)

    # The queue.

    def retried(self, retry: Retry) -> None:
        due, row = retry.due, retry.row
        fields: dict[str, Any] = {
            "event_id": due.event_id,
            "event_key": due.letter.event.event_key,
            "target": row.target,
            "reason": row.reason,
            "retry": row.retries,
        }
        numbers = self._metrics.of(row.target)
        if retry.attempt is not None:
            _add_attempt(fields, retry.attempt)
            numbers.retries[retry.attempt.reason] += 1
        if retry.cause is not None:
            fields["cause"] = str(retry.cause)
            self._metrics.repeats[retry.cause] += 1
        if retry.unrecorded:
            fields["unrecorded"] = retry.unrecorded
        if row.state is State.DEAD and not retry.unrecorded:
            numbers.dead_letters[row.reason] += 1
            self._keep("error", "dead_letter", fields)
            self._happenings.dead(row.target, row.reason, due.event_id, fields["event_key"])
        else:
            self._keep("info", "retried", fields)

    # Targets.

    def breaker(self, target: Target, state: BreakerState) -> None:
        """A target's breaker has another state."""
        fields = {"target": target.name, "owner": target.owner, "state": str(state)}
        if state is BreakerState.OPEN:
            self._metrics.of(target.name).breaker_opened += 1
            self._log.warning("breaker", **fields)
        else:
            self._log.info("breaker", **fields)

    def paused(self, pause: Pause) -> None:
        """A person holds a target back."""
        self._log.warning("target_paused", **_pause_fields(pause), until=utc(pause.until))

    def resumed(self, pause: Pause) -> None:
        """A person's pause is over, or somebody has ended it."""
        self._log.info("target_resumed", **_pause_fields(pause), resumed_by=pause.resumed_by)

    def failing(self, target: Target, failing: Failing) -> None:
        """A target acknowledges nothing, or does again."""
        over = failing.last.acknowledged
        fields: dict[str, Any] = {
            "target": target.name,
            "owner": target.owner,
            "since": utc(failing.since),
            "attempts": failing.attempts,
            "reason": str(failing.last.reason),
        }
        _add_attempt(fields, failing.last)
        if over:
            self._log.info("recovered", **fields)
        else:
            self._log.warning("failing", **fields)
        self._happenings.failing(target, failing)

    def ended(self, ended: Ended) -> None:
        if ended.requests == 1:
            self._metrics.never_claimed += 1
        self._dead_letters(ended)

    def broken(self, error: Exception) -> None:
        self.fault("", error)

    def failed(self, error: StoreFailed) -> None:
        self._metrics.store_failed(str(error))
        detail = ADVICE.get(str(error)) or error.detail
        self._log.warning("store", error=str(error), **({"detail": detail} if detail else {}))
        self._happenings.store_failed(error)

    def left_out(self, count: int) -> None:
        self._metrics.not_made_good += count
        detail = f"{count} acknowledgements can't wait for it: {MAX_OWED} do"
        self._log.warning("store", error="crowded", detail=detail)

    def back(self, seconds: float, made_good: int) -> None:
        self._log.info("store_back", seconds=round(seconds, 1), made_good=made_good)
        self._happenings.store_back(seconds)

    def usage(self, usage: Usage, gives_up: Mapping[str, float], now: float) -> None:
        """What the store holds at that time, on its own clock, and when the first event of each
        target is given up."""
        metrics = self._metrics
        metrics.store_events, metrics.store_bytes = usage.rows, usage.bytes
        metrics.store_fullness = usage.fullest
        metrics.oldest_unsettled = 0 if usage.oldest is None else max(0.0, now - usage.oldest)
        for numbers in metrics.targets.values():
            numbers.unsettled.update(dict.fromkeys(UNSETTLED, 0))
            numbers.gives_up = None
        for (target, state), count in usage.deliveries.items():
            metrics.of(target).unsettled[state] += count
        for target, at in gives_up.items():
            numbers = metrics.of(target)
            numbers.gives_up = min(at, numbers.gives_up or at)
        self._happenings.gives_up(gives_up, now)
        if passed := self._alarm.look(usage.fullest):
            self._log.warning(
                "store_fuller" if passed.rising else "store_emptier",
                mark=passed.mark,
                fullness=round(usage.fullest, 3),
                target=usage.fullest_of,
                events=usage.rows,
                bytes=usage.bytes,
            )


def _pause_fields(pause: Pause) -> dict[str, Any]:
    return {"target": pause.target, "because": pause.because, "who": pause.who}


def _add_memory(fields: dict[str, Any], outcome: Outcome, terms: Terms) -> None:
    """Which request of the event it was, and what there is to say of its record."""
    recalled = outcome.recalled
    fields["request"] = recalled.requests
    fields["of"] = 1 + terms.ebaas.retries
    if recalled.cause is not None:
        fields["cause"] = str(recalled.cause)
    if outcome.unqueued:
        fields["unqueued"] = True
    if outcome.unrecorded:
        fields["unrecorded"] = outcome.unrecorded


def _level(code: str, lost: list[Delivery]) -> Level:
    """Who watches levels alone sees what was not told `000`, and what nobody tries again."""
    if lost:
        return "error"
    return "info" if code == SUCCESS else "warning"


def _id(change: Any, event: Event) -> str:
    """What has changed, in a few characters: ids are texts, and may be anything."""
    if type(change) is str:
        return change if len(change) <= _MAX_ID else change[:_MAX_ID]
    if isinstance(change, dict | list) and len(event.body) > _MAX_SHOWN:
        return "{…}" if isinstance(change, dict) else "[…]"
    return json.dumps(change, ensure_ascii=False)[:_MAX_ID]


def _delivery_fields(delivery: Delivery) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"as": "required" if delivery.required else "optional"}
    attempt = delivery.attempt
    if delivery.flight is None:
        # What an earlier request has come to, and this one did not repeat.
        fields["skipped"] = delivery.row.state if delivery.row else "hung_up"
    elif attempt is None:
        fields["reason"] = "fault"
    else:
        fields["reason"] = attempt.reason
        _add_attempt(fields, attempt)
        if delivery.joined:
            fields["joined"] = True
        if delivery.late:
            fields["late"] = True
    return fields


def _add_attempt(fields: dict[str, Any], attempt: Attempt) -> None:
    fields["ms"] = _ms(attempt.seconds)
    if attempt.status is not None:
        fields["status"] = attempt.status
    if attempt.detail:
        fields["detail"] = attempt.detail
    if attempt.code:
        fields["code"] = attempt.code
    if attempt.msg:
        fields["msg"] = attempt.msg


def _ms(seconds: float) -> float:
    """Milliseconds, to a tenth; `round` takes three times as long."""
    return int(seconds * 10_000 + 0.5) / 10
