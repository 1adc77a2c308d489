"""Recovery: a target that works again gets what waits for it, without waiting for any schedule.

Rules 14 to 16 of docs/internals/memory.md. Each process recovers targets by itself, and leases keep
processes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from router.contract.schedule import Terms
from router.delivery.rules import InForce
from router.model.event import SELF_INFLICTED, Attempt, Reason
from router.routing.target import Target
from router.store.protocol import DeliveryRow, Due, State

#: The most attempts of one recovery in flight, so that they take little of the loop's time from
#: live events.
MOST_AT_ONCE: Final = 16

#: A request of the caller is expected from so long before its time, in seconds, until so long after
#: the reply to it would be over. Recovery leaves its deliveries alone meanwhile: another process
#: cannot see that it is being handled.
EARLY, LATE = 1.0, 5.0

#: The trigger of a recovery that a person has asked for.
OPERATOR: Final = "operator"

#: How long a delivery is left alone whose attempt the router itself did not begin, in seconds.
HELD_BACK: Final = 1.0


class Recovery:
    """The recovery of one target, in progress: slow at first, and twice as fast after each round of
    acknowledgements."""

    def __init__(self, trigger: str, since: float) -> None:
        #: `acknowledged`, `breaker_closed`, `pause_ended` or OPERATOR.
        self.trigger = trigger
        #: When it began, on the store's clock.
        self.since = since
        #: The most attempts that may be in flight now.
        self.window = 1
        #: How many deliveries were acknowledged.
        self.delivered = 0
        self._round = 0

    def acknowledge(self) -> None:
        """One of its attempts was acknowledged."""
        self.delivered += 1
        self._round += 1
        if self._round >= self.window:
            self.window, self._round = min(2 * self.window, MOST_AT_ONCE), 0

    def room(self, target: Target) -> int:
        """Return the most attempts that may be in flight: half of the target's `max_in_flight`, so
        that live events have the other half."""
        return min(self.window, max(1, target.max_in_flight // 2))


class Recoveries:
    """The targets that recover at this process."""

    def __init__(self) -> None:
        self.active: dict[str, Recovery] = {}
        #: The targets for which something waited at the last count, and how many deliveries.
        self.waiting: Mapping[str, int] = {}
        #: Those of them that may begin: each of them once for each count.
        self._to_begin: set[str] = set()
        self._asked: set[str] = set()
        #: The time of the queue's last look, on the store's clock.
        self._now = 0.0

    def count(self, waiting: Mapping[str, int]) -> None:
        """Take the number of deliveries that wait for each target."""
        self.waiting = waiting
        self._to_begin = set(waiting)

    def ask(self, targets: Iterable[str]) -> None:
        """A person wants sent what waits for these targets."""
        self._asked |= set(targets)

    def begin(self, in_force: InForce, sign: Callable[[Target], str], now: float) -> None:
        """Begin a recovery of each target that something waits for and that shows a sign of life,
        and of those a person has asked for; end those of targets that are gone. `sign` returns the
        last sign, `""` for none: it is the recovery's trigger."""
        self._now, targets = now, in_force.targets
        self.active = {name: each for name, each in self.active.items() if name in targets}
        for name in self._asked & targets.keys():
            # One in progress begins with what a person has asked for.
            self.active.setdefault(name, Recovery(OPERATOR, now))
        self._asked.clear()
        if in_force.terms.recovers:
            for name in (self._to_begin & targets.keys()) - self.active.keys():
                if trigger := sign(targets[name]):
                    self._to_begin.discard(name)
                    self.active[name] = Recovery(trigger, now)

    def progress(self, name: str) -> dict[str, Any] | None:
        """Return how far the recovery of a target is, as a `RecoveryView` but with a time; None if
        there is none in progress."""
        recovery = self.active.get(name)
        if recovery is None:
            return None
        pace = recovery.delivered / max(1.0, self._now - recovery.since)
        return {
            "trigger": recovery.trigger,
            "since": recovery.since,
            "delivered": recovery.delivered,
            "left": self.waiting.get(name, 0),
            "per_second": round(pace, 1),
        }


def request_window(now: float, terms: Terms) -> tuple[float, float]:
    """Return the times of a caller's next request which may be in progress, or about to come."""
    return now - terms.reply_within - LATE, now + EARLY


def is_early(due: Due, now: float) -> bool:
    """Return whether a delivery is sent before its own schedule says so."""
    return due.row.state is State.AWAITING or due.row.due_at > now


def row_after_recovery(due: Due, attempt: Attempt, now: float) -> DeliveryRow:
    """Return a delivery after an attempt before its time. A failure costs none of its retries, and
    it is left alone until its schedule has tried it again: an event that its target does not want
    is sent at most once more for each attempt by schedule."""
    row = due.row
    if attempt.acknowledged:
        return replace(row, state=State.ACKNOWLEDGED, reason=attempt.reason)
    if attempt.reason in SELF_INFLICTED:
        return replace(row, recover_at=now + HELD_BACK)
    row = replace(row, reason=attempt.reason, attempts=row.attempts + 1)
    if row.state is State.QUEUED and attempt.reason is Reason.LOOPING:
        return replace(row, state=State.DEAD)
    return left_alone(due, row, now)


def left_alone(due: Due, row: DeliveryRow, now: float) -> DeliveryRow:
    """Return a delivery that recovery leaves to its schedule."""
    if row.state is State.QUEUED:
        row = replace(row, due_at=max(row.due_at, now + HELD_BACK))
    by_schedule = due.request_due_at if row.state is State.AWAITING else row.due_at
    # A request that does not come any more is waited for twice as long each time.
    overdue = now - by_schedule
    return replace(row, recover_at=max(by_schedule, now + max(overdue, HELD_BACK)))
