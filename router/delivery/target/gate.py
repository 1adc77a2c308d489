"""What a target's attempts say of it: whether more may begin (its pauses, breaker and rate), and
since when none has been acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from router.delivery.target.breaker import Breaker, BreakerState
from router.delivery.target.rate import Pace
from router.model.event import OWN_DOING, Attempt, Reason
from router.net.gone import Gone
from router.routing.target import Target
from router.store.pauses import Pause

#: How long a streak of failures has to last until it is told, and after how long it is told again,
#: in seconds.
TOLD_AFTER, TOLD_AGAIN_AFTER = 300.0, 3600.0

#: There is no such endpoint, or it is gone for good: that is told at once.
_NOT_THERE: Final = frozenset({404, 410})

#: More attempts than anybody would begin at a time.
_ANY_NUMBER: Final = 1 << 30

#: The 4xx that are no refusal of an event: too slow, and too many.
_NO_REFUSALS: Final = frozenset({408, 429})


class Gate:
    """Whether a target may be called now: its pause, breaker and rate.

    A target that has none of these has a gate that is always open. State belongs to the target's
    name: what its policy and its address leave as it was goes on.
    """

    def __init__(
        self,
        target: Target,
        before: Gate | None,
        changed: Callable[[Target, BreakerState], None],
        clock: Callable[[], float],
    ) -> None:
        """`before` is the gate that the target had before a reload; `clock` is monotonic."""
        self._target = target
        self._clock = clock
        #: A person's pause, and when that is over.
        self._held: Pause | None = None
        self._held_until = 0.0
        #: Whether it has none of all these: nobody need ask it then.
        self.is_always_open = not (target.paused or target.breaker or target.rate)
        self._breaker: Breaker | None = None
        self._pace: Pace | None = None
        if target.breaker is not None:
            kept = before._breaker if before is not None and before._agrees(target) else None
            tell = partial(changed, target)
            self._breaker = kept or Breaker(target.breaker, clock, tell)
            self._breaker.changed = tell  # one that is kept told of the target before
        if target.rate is not None:
            kept_pace = before is not None and before._target.rate == target.rate
            self._pace = before._pace if before and kept_pace else Pace(target.rate, clock)

    def _agrees(self, target: Target) -> bool:
        """What its breaker knows holds for the target as well."""
        return (self._target.breaker, self._target.url) == (target.breaker, target.url)

    def hold(self, pause: Pause | None, left: float = 0.0) -> None:
        """A person has paused it for so many seconds more; None: nobody has."""
        self._held, self._held_until = pause, self._clock() + left
        target = self._target
        self.is_always_open = not (pause or target.paused or target.breaker or target.rate)

    @property
    def pause(self) -> Pause | None:
        """A person's, as long as it lasts."""
        return self._held if self._held and self._clock() < self._held_until else None

    @property
    def is_paused(self) -> bool:
        return self._target.paused or self.pause is not None

    @property
    def refusal(self) -> Reason | None:
        """Why nobody gets through now, however patient."""
        if self.is_paused:
            return Reason.PAUSED
        if self._breaker is not None and self._breaker.refuses:
            return Reason.BREAKER_OPEN
        return None

    @property
    def state(self) -> BreakerState | None:
        """None where there is no breaker."""
        return None if self._breaker is None else self._breaker.state

    @property
    def waiting(self) -> int:
        """How many wait for the rate."""
        return 0 if self._pace is None else self._pace.waiting

    def room(self, within: float) -> int:
        """How many attempts could begin now, or within so many seconds by the rate."""
        if self.refusal is not None:
            return 0
        room = _ANY_NUMBER if self._pace is None else self._pace.room(within)
        return room if self.state in (None, BreakerState.CLOSED) else min(room, 1)

    def take_free(self) -> bool:
        """Take what the rate gives now."""
        return self._pace is None or self._pace.take_free()

    async def take(self, patience: float, most_waiting: int, gone: Gone | None) -> bool:
        """The same, waiting up to `patience` seconds, where fewer than `most_waiting` wait."""
        return self._pace is None or await self._pace.take(patience, most_waiting, gone)

    def give_back(self) -> None:
        """What was taken is not used after all."""
        if self._pace is not None:
            self._pace.give_back()

    def begin(self) -> int:
        """An attempt begins, which nothing refuses; what its `end` has to name."""
        turn = 0 if self._breaker is None else self._breaker.begin()
        assert turn is not None
        return turn

    def end(self, turn: int, attempt: Attempt | None) -> None:
        """An attempt has ended; None: it was broken off."""
        breaker, policy = self._breaker, self._target.breaker
        if breaker is not None and policy is not None:
            counts = policy.refusals == "count"
            breaker.end(turn, None if attempt is None else failed(attempt, refusals=counts))


def failed(attempt: Attempt, *, refusals: bool) -> bool | None:
    """What an attempt says of its target: that it fails, that it does not, or nothing.

    `refusals`: an answer that refuses the event counts as a failure.
    """
    if attempt.acknowledged:
        return False
    if attempt.reason in OWN_DOING:
        return None
    return refusals or not _refuses(attempt)


def _refuses(attempt: Attempt) -> bool:
    """The target has understood the event and does not want it: it works."""
    status = attempt.status or 0
    by_status = 400 <= status < 500 and status not in _NO_REFUSALS
    return attempt.reason is Reason.CODE or (attempt.reason is Reason.STATUS and by_status)


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
