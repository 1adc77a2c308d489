"""The rules of delivery memory, as pure decisions, and a request's delivery, which they read.

docs/internals/memory.md numbers the rules and gives the reason for each. memory.py applies these
decisions to requests, queue.py to the queue.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from router.contract.schedule import Schedule, Terms
from router.delivery.target.sender import Flight
from router.model.event import SELF_INFLICTED, Attempt, Reason
from router.routing.table import RouteTable
from router.routing.target import Target
from router.store.admin import DISCARDED
from router.store.protocol import RETRIED, DeliveryRow, Kept, Record, Stage, State, Tried, Usage

#: The reason of a dead letter whose target is no longer configured.
TARGET_REMOVED: Final = "target_removed"


@dataclass(frozen=True, slots=True)
class InForce:
    """The part of the configuration in force that background work needs."""

    table: RouteTable
    terms: Terms

    @property
    def targets(self) -> Mapping[str, Target]:
        return self.table.targets

    def queue_of(self, target: str) -> Schedule:
        """Return the schedule by which the queue retries a target."""
        known = self.targets.get(target)
        return (known.queue if known else None) or self.terms.queue


class Cause(StrEnum):
    """A cause for which a target may see an event again."""

    #: An acknowledgement died with its process.
    CRASH = "crash"
    #: The `000` never reached the caller.
    REPLY_LOST = "reply_lost"
    #: A retry beside a request that is still held, or another event with the same body.
    OVERLAP = "overlap"
    #: A request or an attempt of another process.
    OTHER_PROCESS = "other_process"
    #: The record's acknowledgements were too old to count.
    EXPIRED = "expired"
    #: The store was away, full, or too slow to record.
    STORE = "store"
    #: The target acted, but its answer came too late or was lost.
    LATE = "late"
    #: A person replayed it.
    REPLAY = "replay"


class Delivery:
    """One event to one target, as one request sees it. Mutable: its attempt begins and ends."""

    __slots__ = ("attempt", "ends_by", "flight", "joined", "late", "required", "row", "target")

    def __init__(self, target: Target, required: bool, row: DeliveryRow | None = None) -> None:
        self.target = target
        self.required = required
        #: None while the attempt is in flight, and if none was made.
        self.attempt: Attempt | None = None
        #: Its row when the request claimed the record; None if it has none.
        self.row = row
        #: When an attempt in flight ends at the latest.
        self.ends_by = 0.0
        #: None if this request makes no attempt.
        self.flight: Flight | None = None
        #: The attempt belongs to an earlier request, which records it.
        self.joined = False
        #: The attempt outlived the decision about the reply.
        self.late = False

    @property
    def needed(self) -> bool:
        """Return whether this request, which holds the claim, calls the target."""
        row = self.row
        if row is None:
            return True
        if row.state is State.ACKNOWLEDGED:
            return False
        return self.required or not (row.state is State.QUEUED or _is_discarded(row))

    @property
    def acknowledged(self) -> bool:
        if self.attempt is not None:
            return self.attempt.acknowledged
        return self.row is not None and self.row.state is State.ACKNOWLEDGED

    @property
    def settled(self) -> bool:
        """It does not keep the `000` back: acknowledged, or optional and queued already."""
        return self.acknowledged or (self.attempt is None and not self.needed)

    @property
    def is_queued_but_required(self) -> bool:
        """It was queued for an optional target, which the table in force requires."""
        return self.required and self.row is not None and self.row.state is State.QUEUED

    @property
    def attempts_begun(self) -> int:
        """The number of attempts that this request has begun: 1 or 0."""
        if self.flight is None or self.joined:
            return 0
        return int(self.attempt is None or self.attempt.reason not in SELF_INFLICTED)

    @property
    def spared(self) -> bool:
        """Without memory the target would have received the event once more."""
        return self.joined or (self.flight is None and self.row is not None)

    def update(self) -> None:
        """Take the result of the attempt if it has ended; None if it raised, which
        `wait_for_late_attempts` raises again."""
        if self.flight is not None and self.flight.is_over:
            self.attempt = self.flight.value


# Rules 1, 4 and 8: the record that a request may claim.


def has_credit(record: Record, now: float) -> bool:
    """Return whether its acknowledgements still count: a stale one must not stand in for a new
    event."""
    return not record.credit_revoked and now <= record.credit_until


def claimable(record: Record, now: float) -> bool:
    return record.stage is Stage.OPEN and has_credit(record, now)


def nearest(records: Iterable[Kept], now: float) -> Kept | None:
    """Return the record that a request claims: the one whose retry is due nearest to now."""
    claimables = [kept for kept in records if claimable(kept.record, now)]
    return min(claimables, key=lambda kept: abs(kept.record.due_at - now), default=None)


def cause(records: Iterable[Kept], *, alone: bool) -> Cause | None:
    """Return why a request that claims none of these may be a repetition; None if it can't be.

    `alone`: no other request with its body is undecided.
    """
    if not any(kept.record.stage is Stage.OPEN for kept in records):
        return None
    return Cause.EXPIRED if alone else Cause.OVERLAP


def _is_discarded(row: DeliveryRow) -> bool:
    """A person has discarded it; if it is optional, it is not sent again."""
    return row.state is State.SUPERSEDED and row.reason == DISCARDED


# Rules 3, 8 and 10: the record and the rows that a request leaves.


def record_opened(
    event_id: str, first_at: float, now: float, terms: Terms, *, credit_revoked: bool
) -> Record:
    """Return the record of a new event whose first request has failed."""
    new = Record(
        event_id, Stage.OPEN, first_at, 1, now, now, now, now, credit_revoked=credit_revoked
    )
    return record_failed(new, now, terms, credit_revoked=credit_revoked)


def record_failed(record: Record, now: float, terms: Terms, *, credit_revoked: bool) -> Record:
    """Return the record after another failure; ENDED if the caller makes no further request."""
    wait = terms.ebaas.wait(record.requests - 1)
    return replace(
        record,
        stage=Stage.ENDED if wait is None else Stage.OPEN,
        replied_at=now,
        due_at=now + (wait or 0.0),
        credit_until=now + 2 * (wait or 0.0) + terms.grace,
        ends_at=ends_at(record.first_at, terms),
        credit_revoked=record.credit_revoked or credit_revoked,
    )


def ends_at(first_at: float, terms: Terms) -> float:
    """Return when the caller has surely made its last request; each request takes time as well."""
    requests = 1 + terms.ebaas.retries
    return first_at + terms.ebaas.total() + requests * terms.reply_within + terms.grace


def record_closed(record: Record, now: float) -> Record:
    """Return the record once its caller gets the `000`."""
    return replace(record, stage=Stage.CLOSED, replied_at=now)


def record_answered(event_id: str, first_at: float, now: float) -> Record:
    """Return the record of a new event that gets its `000` at once, and has deliveries to queue."""
    return Record(event_id, Stage.CLOSED, first_at, 1, now, now, now, now)


def rows_after_request(
    deliveries: Iterable[Delivery], record: Record, now: float, terms: Terms
) -> list[DeliveryRow]:
    """Return the rows that a request changes; `record` is the one that it leaves."""
    rows = []
    for delivery in deliveries:
        row, attempt = _row_after_request(delivery, record.stage, now, terms), delivery.attempt
        if row is None:
            continue
        if attempt is not None and not attempt.acknowledged and not delivery.joined:
            row = replace(row, tried=Tried(attempt, request=record.requests))
        rows.append(row)
    return rows


def _row_after_request(
    delivery: Delivery, stage: Stage, now: float, terms: Terms
) -> DeliveryRow | None:
    attempt, before, name = delivery.attempt, delivery.row, delivery.target.name
    if delivery.acknowledged:
        if attempt is None:
            return None
        return DeliveryRow(name, State.ACKNOWLEDGED, Reason.ACKNOWLEDGED)
    reason = before.reason if before is not None else ""
    if attempt is not None:
        reason = attempt.reason
    made = delivery.attempts_begun + (0 if before is None else before.attempts)
    if delivery.required:
        if stage is not Stage.OPEN:
            return DeliveryRow(name, State.DEAD, reason, attempts=made)
        if delivery.joined and before is not None and before.state in RETRIED:
            return None  # it may have the lease of the attempt that was joined
        # While its attempt is in flight, no other process sends it.
        until = delivery.ends_by if delivery.late else 0.0
        return DeliveryRow(name, State.AWAITING, reason, attempts=made, recover_at=until)
    if before is not None and (before.state in (State.QUEUED, State.DEAD) or _is_discarded(before)):
        return None
    ends_by = delivery.ends_by
    fresh = DeliveryRow(
        name, State.QUEUED, reason, due_at=ends_by, attempts=made, recover_at=ends_by
    )
    if attempt is None or attempt.reason is Reason.ELSEWHERE:
        return fresh
    return row_after_retry(
        replace(fresh, recover_at=0.0), attempt, now, delivery.target.queue or terms.queue
    )


def left_behind(
    rows: Mapping[str, DeliveryRow], plan: Collection[str], targets: Collection[str]
) -> list[DeliveryRow]:
    """Return the rows of deliveries that are no longer in the plan; `targets` are all configured.

    A queued row whose target is not configured stays: the queue ends it after a while.
    """
    return [
        replace(row, state=State.SUPERSEDED)
        for row in rows.values()
        if row.target not in plan
        and (row.state is State.AWAITING or (row.state is State.QUEUED and row.target in targets))
    ]


# The queue.


def row_after_retry(
    row: DeliveryRow, attempt: Attempt, now: float, queue: Schedule, jitter: float = 0.0
) -> DeliveryRow:
    """Return a queued delivery after an attempt: acknowledged, due again, or a dead letter.

    `jitter` is the part of the wait that is added to it. A target's `Retry-After` is honoured up
    to the longest wait. An event that goes round in a loop is a dead letter at once: each retry
    would end the same way, after calling all other targets on its way again.
    """
    if attempt.acknowledged:
        return replace(row, state=State.ACKNOWLEDGED, reason=attempt.reason)
    if attempt.reason in SELF_INFLICTED:
        return replace(row, due_at=now + queue.waits[0])
    wait = queue.wait(row.retries)
    if wait is None or attempt.reason is Reason.LOOPING:
        return replace(row, state=State.DEAD, reason=attempt.reason)
    asked = min(attempt.retry_after or 0.0, max(queue.waits))
    due_at = now + max(wait * (1 + jitter), asked)
    return replace(row, state=State.QUEUED, reason=attempt.reason, due_at=due_at)


def expires_at(usage: Usage, in_force: InForce, now: float) -> dict[str, float]:
    """Return by target when the first event that still needs it expires: after its caller's last
    request, or once the queue's last retry fails. A due delivery that is held back is no closer to
    its end for that."""
    earliest = dict(usage.first_ends)
    for (target, made), due_at in usage.first_due.items():
        at = max(due_at, now) + sum(in_force.queue_of(target).all_waits()[made + 1 :])
        earliest[target] = min(at, earliest.get(target, at))
    return earliest
