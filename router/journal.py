"""What happened, told once and in one place: each event's line, and what becomes of it later."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.config import Config
from router.errors import Refused
from router.forwarder import Delivery, Outcome
from router.log import Log
from router.model import Attempt, Event
from router.routes import Plan
from router.store import Ended, State, StoreFailed
from router.worker import Retry


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller was told."""

    request_id: str
    #: The contract's code; `""` where the caller was gone.
    code: str
    #: From the request's first byte until the reply.
    seconds: float

    @property
    def fields(self) -> dict[str, Any]:
        return {"code": self.code, "ms": _ms(self.seconds), "request_id": self.request_id}


class Journal:
    """Tells the log. It is the worker's watcher as well."""

    def __init__(self, log: Log) -> None:
        self._log = log

    # Requests.

    def refused(self, told: Told, error: Refused) -> None:
        """A callback that the contract does not allow."""
        self._log.warning("refused", **told.fields, why=str(error))

    def hung_up(self, request_id: str) -> None:
        """A caller that went away before its request was whole."""
        self._log.warning("hung_up", request_id=request_id)

    def unmatched(self, told: Told, event: Event) -> None:
        """An event that no route matches."""
        self._log.warning("unmatched", **told.fields, **_event_fields(event))

    def fault(self, request_id: str, error: BaseException) -> None:
        """A fault of the router's own."""
        self._log.error("fault", request_id=request_id, at=place(error))

    def event(self, told: Told, plan: Plan, outcome: Outcome, config: Config) -> None:
        """An event whose last attempt has ended; with no memory, what it has lost as well."""
        self._log.info(
            "event",
            **told.fields,
            event_id=outcome.envelope.event_id,
            **_memory_fields(outcome, config),
            targets={d.target.name: _delivery_fields(d) for d in outcome.deliveries},
            routes=[route.name for route in plan.routes],
            **_event_fields(outcome.envelope.event),
        )
        for delivery in outcome.lost:
            self._log.warning(
                "lost",
                event_id=outcome.envelope.event_id,
                target=delivery.target.name,
                owner=delivery.target.owner,
            )

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
        if retry.attempt is not None:
            fields |= _attempt_fields(retry.attempt)
        if row.state is State.DEAD:
            self._log.error("dead_letter", **fields)
        else:
            self._log.info("retried", **fields)

    def ended(self, ended: Ended) -> None:
        for target, reason in ended.dead.items():
            self._log.error(
                "dead_letter",
                event_id=ended.event_id,
                event_key=ended.event_key,
                target=target,
                reason=reason,
                requests=ended.requests,
            )

    def failed(self, error: StoreFailed) -> None:
        self._log.warning("store", error=str(error))


def _memory_fields(outcome: Outcome, config: Config) -> dict[str, Any]:
    """Which request of the event it was, and what there is to say of its record."""
    if not outcome.remembered:
        return {}
    recollection = outcome.recollection
    fields: dict[str, Any] = {
        "request": recollection.requests,
        "of": 1 + config.terms.ebaas.retries,
    }
    if recollection.cause is not None:
        fields["cause"] = str(recollection.cause)
    if outcome.unqueued:
        fields["unqueued"] = True
    if outcome.unrecorded:
        fields["unrecorded"] = outcome.unrecorded
    return fields


def _event_fields(event: Event) -> dict[str, Any]:
    fields = {
        "event_key": event.event_key,
        "event_source": event.event_source,
        "event_topic": event.event_topic,
        "event_type": event.event_type,
        "event_status": event.event_status,
        "bytes": len(event.body),
    }
    if event.event_key != event.derived_key:
        fields["derived_key"] = event.derived_key
    return fields


def _delivery_fields(delivery: Delivery) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"as": "required" if delivery.required else "optional"}
    if delivery.task is None:
        # What an earlier request has come to, and this one did not repeat.
        return {**fields, "skipped": str(delivery.row.state) if delivery.row else "hung_up"}
    attempt = delivery.attempt
    if attempt is None:
        return {**fields, "reason": "fault"}
    fields |= {"reason": str(attempt.reason), **_attempt_fields(attempt)}
    if delivery.joined:
        fields["joined"] = True
    if delivery.late:
        fields["late"] = True
    return fields


def _attempt_fields(attempt: Attempt) -> dict[str, Any]:
    fields: dict[str, Any] = {"ms": _ms(attempt.seconds)}
    if attempt.status is not None:
        fields["status"] = attempt.status
    if attempt.detail:
        fields["detail"] = attempt.detail
    return fields


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def place(error: BaseException) -> str:
    """What kind of fault, and where in the code; never its text, which may hold a secret."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno}"
