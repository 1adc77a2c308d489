"""Since when a target acknowledges nothing, and when that is worth telling. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from router.model import OWN_DOING, Attempt

#: How long it has to last until it is told, and after how long it is told again, in seconds.
TOLD_AFTER, TOLD_AGAIN_AFTER = 300.0, 3600.0

#: There is no such endpoint, or it is gone for good: that is told at once.
_NOT_THERE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Failing:
    """A streak, as it is told."""

    #: Unix time, in seconds.
    since: float
    attempts: int
    #: The last attempt; an acknowledgement where it is over.
    last: Attempt


class Streak:
    """Follows a target's attempts. Those that come to nothing by the router's own doing don't
    count."""

    def __init__(self) -> None:
        #: When the first of the failures was; 0 while there are none.
        self.since = 0.0
        self._attempts = 0
        self._told = False
        self._tell_at = 0.0

    def look(self, attempt: Attempt, now: float) -> Failing | None:
        """What is to be told now that an attempt has ended; Unix time, in seconds."""
        if attempt.acknowledged:
            return self._over(attempt) if self.since else None
        if attempt.reason in OWN_DOING:
            return None
        if not self.since:
            self.since, self._tell_at = now, now + TOLD_AFTER
        self._attempts += 1
        at_once = attempt.status in _NOT_THERE and not self._told
        if now < self._tell_at and not at_once:
            return None
        self._told, self._tell_at = True, now + TOLD_AGAIN_AFTER
        return Failing(self.since, self._attempts, attempt)

    def _over(self, attempt: Attempt) -> Failing | None:
        over = Failing(self.since, self._attempts, attempt) if self._told else None
        self.since, self._attempts, self._told = 0.0, 0, False
        return over
