"""A target's health: its state, by the share of its recent attempts that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

#: The state of a target. One that is paused keeps its health beside that.
State = Literal["failing", "degraded", "paused", "healthy", "idle"]
STATES: Final[tuple[State, ...]] = get_args(State)
TROUBLED: Final[tuple[State, ...]] = ("failing", "degraded")

#: The seconds of a minute. The last LATELY minutes count; up to LONGEST if they have fewer than FEW
#: attempts and not everything is settled.
MINUTE: Final = 60
LATELY: Final = 5
LONGEST: Final = 15
FEW: Final = 10

#: The share of failed attempts at which a target is failing, or degraded; and the lower share at
#: which it no longer is. One that swings about a bound does not change its state each time.
FAILING: Final = (0.9, 0.8)
DEGRADED: Final = (0.05, 0.02)


@dataclass(slots=True)
class Minute:
    """The attempts that ended within a minute, apart from those that the router held back."""

    attempts: int = 0
    failed: int = 0
    #: When the first one failed, in Unix time; 0 for none.
    failed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """A target's state, and the attempts that it was last decided by."""

    state: State = "idle"
    #: When the target began to be failing or degraded, in Unix time; 0 if it is neither. It stays
    #: while one becomes the other.
    since: float = 0.0
    attempts: int = 0
    failed: int = 0

    @property
    def part(self) -> float:
        """The share of the attempts that failed."""
        return self.failed / self.attempts if self.attempts else 0.0


def health_of(
    before: Health,
    minutes: Mapping[int, Minute],
    now: float,
    *,
    recent: bool,
    unsettled: bool,
    is_open: bool,
) -> Health:
    """Return the health after `before`, from the minutes by their numbers in Unix time.

    recent: it had an attempt so lately that a retry may follow. unsettled: the last one failed, or
    deliveries wait for a retry. Few attempts do not prove then that the target works again.
    is_open: its breaker does not let every attempt through."""
    at = int(now // MINUTE)
    attempts = failed = 0
    since = 0.0
    for age in range(LONGEST):
        if age >= LATELY and (attempts >= FEW or not unsettled):
            break
        if (minute := minutes.get(at - age)) is not None:
            attempts, failed = attempts + minute.attempts, failed + minute.failed
            since = minute.failed_at or since
    was_troubled = before.state in TROUBLED
    part = failed / attempts if attempts else 0.0
    state: State = "healthy" if recent else "idle"
    if is_open or _is_over(part, FAILING, before.state == "failing"):
        state = "failing"
    elif _is_over(part, DEGRADED, was_troubled):
        state = "degraded"
    elif was_troubled and unsettled and attempts < FEW:
        state = "degraded" if attempts else before.state
    if not attempts and state in TROUBLED:
        attempts, failed = before.attempts, before.failed
    began = (before.since if was_troubled else since or now) if state in TROUBLED else 0.0
    return Health(state, began, attempts, failed)


def _is_over(part: float, bounds: tuple[float, float], was_over: bool) -> bool:
    return part >= bounds[was_over]
