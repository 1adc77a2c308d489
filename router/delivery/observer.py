"""Observer: logs, counts and archives each event, its later attempts, and changes of targets."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from router.archive.writer import Archive
from router.delivery.memory import MAX_OWED, Outcome
from router.delivery.notifications import Notifications
from router.delivery.observations import Observations
from router.delivery.queue import Retry
from router.delivery.recovery import Recovery
from router.delivery.rules import Cause, Delivery
from router.delivery.target.gate import BreakerState, Failing
from router.model.errors import Refused
from router.model.event import SUCCESS, Attempt, Event, digest_of
from router.routing.table import Plan
from router.routing.target import Target
from router.store.protocol import ADVICE, UNSETTLED, Ended, Pause, State, StoreFailed, Usage
from router.telemetry.lag import Alarm
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.log.lines import Level, stamp, utc
from router.telemetry.metrics import Metrics

#: The longest id in a line, in characters.
_MAX_ID: Final = 64

#: In a larger body, in bytes, ids that are objects are not looked into.
_MAX_SHOWN: Final = 16 * 1024


class ReplyInfo(NamedTuple):
    """A reply, as it is logged and counted."""

    request_id: str
    #: The contract's code; `""` if the caller was gone.
    code: str
    #: From the request's first byte until the reply, or until the caller had hung up.
    seconds: float

    @property
    def fields(self) -> dict[str, Any]:
        return {"code": self.code, "ms": _ms(self.seconds), "request_id": self.request_id}


class Observer:
    """Logs, counts and archives what happens to requests, in the queue, and to targets and pauses.
    Reloads, the start and the stop, and a slow loop are logged where they happen."""

    def __init__(
        self,
        log: Log,
        metrics: Metrics,
        notifications: Notifications,
        archive: Archive | None = None,
        refused: Archive | None = None,
        *,
        traced: bool = False,
    ) -> None:
        """`refused` keeps callbacks that are answered 400, and events that no route matches.
        `traced`: an event's trace context is a span of the router's own."""
        self._traced = traced
        self._log = log
        self._archive = archive
        self._refused = refused
        self._notifications = notifications
        self._metrics = metrics
        self._alarm = Alarm()
        #: How EBaaS calls.
        self.observations = Observations(time.time())

    # Requests.

    def refused(self, info: ReplyInfo, error: Refused, body: bytes | None = None) -> None:
        """A request that is not a callback, or one that the contract does not allow, with its body
        if that was read."""
        is_invalid = info.code == "400"
        digest = digest_of(body)[:6].hex() if is_invalid and body is not None else ""
        self._metrics.refuse(info.code, str(error) if is_invalid else "", digest)
        if is_invalid:
            self._metrics.invalid_at(error.field)
        caller = {"caller": error.caller} if error.caller else {}
        self._log.warning("refused", **info.fields, why=str(error), **caller)
        if body is not None and is_invalid and self._refused is not None:
            fields = {**info.fields, "why": str(error), "msg": error.msg}
            self._refused.put("warning", "refused", fields, None, body)

    def hung_up(self, request_id: str) -> None:
        """A caller that went away before its request was whole."""
        self._metrics.hung_up += 1
        self._log.warning("hung_up", request_id=request_id)

    def unmatched(self, info: ReplyInfo, event: Event) -> None:
        """An event that no route matches."""
        self._metrics.no_route(info.code, event, digest_of(event.body)[:6].hex())
        self._metrics.event(info.code, info.seconds)
        fields = info.fields
        self._add_event(fields, event)
        if info.code == SUCCESS or self._refused is None:
            self._write("warning", "unmatched", fields, event.body)
            return
        self._log.write("warning", "unmatched", fields, event.body)
        self._refused.put("warning", "unmatched", fields, None, event.body)

    def fault(self, request_id: str, error: BaseException) -> None:
        """A fault of the router's own."""
        self._metrics.faults += 1
        self._log.error("fault", request_id=request_id, at=place_of(error))

    def event(self, info: ReplyInfo, plan: Plan, outcome: Outcome) -> None:
        """An event whose last attempt has ended; without memory, also the deliveries it lost."""
        self._metrics.event(info.code, info.seconds)
        self._count_memory(outcome)
        letter, fields = outcome.letter, info.fields
        fields["event_id"] = letter.event_id
        if outcome.remembered:
            _add_memory(fields, outcome)
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
        self._write(_level(info.code, lost), "event", fields, event.body)
        for delivery in lost:
            target = delivery.target
            self._metrics.of(target.name).lost += 1
            about = {"event_id": letter.event_id, "target": target.name, "owner": target.owner}
            self._write("error", "lost", about)
        recalled, observations = outcome.recalled, self.observations
        if info.code != SUCCESS or not recalled.is_new or observations.failed:
            observations.see(outcome, info.code, info.seconds, fields.get("changes", ()))
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

    def _dead_letters(self, ended: Ended) -> None:
        about = {"event_id": ended.event_id, "event_key": ended.event_key}
        for target, reason in ended.dead.items():
            self._metrics.of(target).dead_letters[reason or "unknown"] += 1
            fields = {"target": target, "reason": reason, **about, "requests": ended.requests}
            self._write("error", "dead_letter", fields)
            self._notifications.dead(target, reason, **about)

    def _write(self, level: Level, kind: str, fields: dict[str, Any], body: bytes = b"") -> None:
        """Write a line about one event to the log, and to the archive with the event's body."""
        line = self._log.write(level, kind, fields, body)
        if self._archive is not None:
            self._archive.put(level, kind, fields, line, body)

    # The queue.

    def retried(self, retry: Retry) -> None:
        due, row = retry.due, retry.row
        fields: dict[str, Any] = {
            "event_id": due.event_id,
            "event_key": due.letter.event.event_key,
            "target": row.target,
            "reason": row.reason,
            "retry": row.retries,
            "by": retry.by,
        }
        numbers = self._metrics.of(row.target)
        if retry.attempt is not None:
            fields["attempt"] = retry.number
            _add_attempt(fields, retry.attempt)
            numbers.retries[retry.attempt.reason] += 1
            if retry.by == "recovery" and retry.attempt.acknowledged:
                numbers.recovered += 1
        if due.replayed:
            fields["cause"] = str(Cause.REPLAY)
            self._metrics.repeats[Cause.REPLAY] += 1
        if retry.unrecorded:
            fields["unrecorded"] = retry.unrecorded
        if row.state is State.DEAD and not retry.unrecorded:
            numbers.dead_letters[row.reason] += 1
            self._write("error", "dead_letter", fields)
            self._notifications.dead(row.target, row.reason, due.event_id, fields["event_key"])
        else:
            self._write("info", "retried", fields)

    def recovered(self, target: str, recovery: Recovery, seconds: float, *, failed: bool) -> None:
        if not failed:
            self._notifications.backlog_sent(target)
        if not (recovery.delivered or failed):
            return
        fields = {
            "target": target,
            "trigger": recovery.trigger,
            "delivered": recovery.delivered,
            "seconds": round(seconds, 1),
            "failed": failed,
        }
        self._log.info("recovery", **fields)

    def ended(self, ended: Ended) -> None:
        if ended.requests == 1:
            self._metrics.never_claimed += 1
        self._dead_letters(ended)

    def failed(self, error: StoreFailed) -> None:
        self._metrics.store_failed(str(error))
        detail = ADVICE.get(str(error)) or error.detail
        self._log.warning("store", error=str(error), **({"detail": detail} if detail else {}))
        self._notifications.store_failed(error)

    def left_out(self, count: int) -> None:
        self._metrics.not_made_good += count
        detail = f"{count} acknowledgements can't wait for it: {MAX_OWED} do"
        self._log.warning("store", error="crowded", detail=detail)

    def back(self, seconds: float, written_late: int) -> None:
        self._log.info("store_back", seconds=round(seconds, 1), made_good=written_late)
        self._notifications.store_back(seconds)

    def usage(self, usage: Usage, expires_at: Mapping[str, float], now: float) -> None:
        """The store's contents at that time, on its own clock, and by target when its first event
        expires."""
        metrics = self._metrics
        metrics.store_events, metrics.store_bytes = usage.rows, usage.bytes
        metrics.store_fullness = usage.fullest
        metrics.oldest_unsettled = 0 if usage.oldest is None else max(0.0, now - usage.oldest)
        for numbers in metrics.targets.values():
            numbers.unsettled.update(dict.fromkeys(UNSETTLED, 0))
            numbers.expires_at = None
        for (target, state), count in usage.deliveries.items():
            metrics.of(target).unsettled[state] += count
        for target, at in expires_at.items():
            numbers = metrics.of(target)
            numbers.expires_at = min(at, numbers.expires_at or at)
        self._notifications.expires_at(expires_at, now)
        self._notifications.waiting(usage.waiting().keys())
        if passed := self._alarm.look(usage.fullest):
            self._log.warning(
                "store_fuller" if passed.rising else "store_emptier",
                mark=passed.mark,
                fullness=round(usage.fullest, 3),
                target=usage.fullest_of,
                events=usage.rows,
                bytes=usage.bytes,
            )

    # Targets.

    def breaker(self, target: Target, state: BreakerState) -> None:
        """A target's breaker has changed its state."""
        is_open = state is BreakerState.OPEN
        self._metrics.of(target.name).breaker_opened += is_open
        write = self._log.warning if is_open else self._log.info
        write("breaker", target=target.name, owner=target.owner, state=str(state))

    def paused(self, pause: Pause) -> None:
        """A person has paused a target."""
        about = {"target": pause.target, "because": pause.because, "who": pause.who}
        self._log.warning("target_paused", **about, until=utc(pause.until))

    def resumed(self, pause: Pause) -> None:
        """A person's pause is over, or somebody has ended it."""
        about = {"target": pause.target, "because": pause.because, "who": pause.who}
        self._log.info("target_resumed", **about, resumed_by=pause.resumed_by)

    def failing(self, target: Target, failing: Failing) -> None:
        """A target has acknowledged nothing for a while, or does again."""
        fields: dict[str, Any] = {
            "target": target.name,
            "owner": target.owner,
            "since": utc(failing.since),
            "attempts": failing.attempts,
            "reason": str(failing.last.reason),
        }
        _add_attempt(fields, failing.last)
        if failing.last.acknowledged:
            self._log.info("recovered", **fields)
        else:
            self._log.warning("failing", **fields)
        self._notifications.failing(target, failing)


def _add_memory(fields: dict[str, Any], outcome: Outcome) -> None:
    """Add which request of the event it was, and what is unusual about its record."""
    recalled = outcome.recalled
    fields["request"] = recalled.requests
    fields["of"] = 1 + outcome.terms.ebaas.retries
    if not recalled.is_new:
        fields["first_at"] = stamp(recalled.began_at)
    if recalled.cause is not None:
        fields["cause"] = str(recalled.cause)
    if outcome.unqueued:
        fields["unqueued"] = True
    if outcome.unrecorded:
        fields["unrecorded"] = outcome.unrecorded


def _level(code: str, lost: list[Delivery]) -> Level:
    """An operator who watches levels alone sees every reply but `000`, and every lost delivery."""
    if lost:
        return "error"
    return "info" if code == SUCCESS else "warning"


def _id(change: Any, event: Event) -> str:
    """Format an id in a few characters; ids are texts, but may be anything."""
    if type(change) is str:
        return change if len(change) <= _MAX_ID else change[:_MAX_ID]
    if isinstance(change, dict | list) and len(event.body) > _MAX_SHOWN:
        return "{…}" if isinstance(change, dict) else "[…]"
    return json.dumps(change, ensure_ascii=False)[:_MAX_ID]


def _delivery_fields(delivery: Delivery) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"as": "required" if delivery.required else "optional"}
    attempt = delivery.attempt
    if delivery.flight is None:
        # The state that an earlier request left, and this one did not change.
        fields["skipped"] = delivery.row.state if delivery.row else "hung_up"
    elif attempt is None:
        fields["reason"] = "fault"
    else:
        fields["reason"] = attempt.reason
        if delivery.row is not None and not delivery.joined:
            fields["attempt"] = delivery.row.attempts + 1
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
    """Return milliseconds, to a tenth; `round` takes three times as long."""
    return int(seconds * 10_000 + 0.5) / 10
