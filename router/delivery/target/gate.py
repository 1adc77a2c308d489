"""Gate: whether a target may be called now, by its pause, its breaker and its rate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from router.model.event import SELF_INFLICTED, Attempt, Reason
from router.net.loops import Gone
from router.routing.target import BreakerPolicy, Rate, Target
from router.store.protocol import Pause


class Waiters:
    """Waiters, first come first served. Their owner has what they wait for, and calls `admit` when
    it hands one of it to the first."""

    def __init__(self) -> None:
        self._queue: deque[asyncio.Future[bool]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    async def wait(
        self,
        give_back: Callable[[], None],
        timeout: float | None = None,
        gone: Gone | None = None,
    ) -> bool:
        """Wait to be admitted; False after `timeout` seconds, or if the caller is `gone`.

        If the wait is cancelled at the very moment of being admitted, `give_back` is called.
        """
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._queue.append(place)

        def leave(_: object = None) -> None:
            self._leave(place)

        timer = None if timeout is None else loop.call_later(timeout, leave)
        if gone is not None:
            gone.add_done_callback(leave)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.result():
                give_back()
            self._leave(place)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if gone is not None:
                gone.remove_done_callback(leave)

    def admit(self) -> bool:
        """Admit the first waiter; False if nobody waits."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(True)
                return True
        return False

    def _leave(self, place: asyncio.Future[bool]) -> None:
        """Leave with nothing, unless the place has been decided already."""
        if place in self._queue:
            self._queue.remove(place)
        if not place.done():
            place.set_result(False)


#: A token may lack this much by rounding, so that a timer which is on time gets one.
_ROUNDING: Final = 1e-6

#: Attempts that leave the burst to others take what comes within so many seconds, or a single one.
_BESIDE: Final = 0.1


class Pace:
    """Lets attempts begin at a rate, first come first served: a bucket with `burst` tokens at first
    and at most, and `per_second` more each second.

    The invariant: while anybody waits, one timer runs for the first waiter, and nobody else gets a
    token.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds."""
        self._rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._at = clock()
        self._waiters = Waiters()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def room(self, within: float, *, keeps_burst: bool = False) -> int:
        """Return how many more could begin within so many seconds; with `keeps_burst`, without the
        burst, which is left to others."""
        rate = self._rate
        tokens = self._refill() + within * rate.per_second
        if keeps_burst:
            tokens -= rate.burst - min(rate.burst, max(1.0, _BESIDE * rate.per_second))
        return max(0, int(tokens) - len(self._waiters))

    def take_free(self) -> bool:
        """Take a token if there is one and nobody waits for it."""
        return not self._waiters and self._take()

    def give_back(self) -> None:
        """Return a token that was not used after all."""
        self._tokens += 1.0

    async def take(self, patience: float, most_waiting: int, gone: Gone | None = None) -> bool:
        """Wait for a token for up to `patience` seconds.

        False at once if it would not come in time, or if `most_waiting` wait already; False later
        if the caller is `gone`.
        """
        if self.take_free():
            return True
        waiting = len(self._waiters)
        if waiting >= most_waiting or self._seconds_until(waiting + 1) > patience:
            return False
        self._set_timer()
        return await self._waiters.wait(self.give_back, gone=gone)

    def _refill(self) -> float:
        now, rate = self._clock(), self._rate
        come = (now - self._at) * rate.per_second
        self._tokens, self._at = min(self._tokens + come, float(rate.burst)), now
        return self._tokens

    def _take(self) -> bool:
        if self._refill() < 1.0 - _ROUNDING:
            return False
        self._tokens -= 1.0
        return True

    def _seconds_until(self, tokens: int) -> float:
        """Return how long until so many can have been taken."""
        return max(0.0, (tokens - self._refill()) / self._rate.per_second)

    def _set_timer(self) -> None:
        if self._timer is None:
            wait = self._seconds_until(1)
            self._timer = asyncio.get_running_loop().call_later(wait, self._next)

    def _next(self) -> None:
        self._timer = None
        while self._waiters and self._take():
            if not self._waiters.admit():
                self.give_back()
        if self._waiters:
            self._set_timer()


#: The number of slices of a breaker's window: old results are forgotten one slice at a time.
SLICES: Final = 10


class BreakerState(StrEnum):
    #: Every attempt may begin.
    CLOSED = "closed"
    #: None may.
    OPEN = "open"
    #: One may, the probe, and it decides.
    HALF_OPEN = "half_open"


class Breaker:
    """Decides whether an attempt may begin, from how earlier ones ended.

    The invariant: an attempt that began before the last change of state does not count after it.
    Each change starts another epoch, and an end counts only in the epoch of its beginning.
    """

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds."""
        self.state = BreakerState.CLOSED
        self._policy = policy
        self._clock = clock
        #: Called with every new state.
        self.changed: Callable[[BreakerState], object] = lambda state: None
        self._window = _Window(policy.within)
        self._epoch = 0
        self._probe_at = 0.0
        self._probing = False

    @property
    def refuses(self) -> bool:
        """No attempt may begin now."""
        if self.state is BreakerState.CLOSED:
            return False
        return self._probing or self._clock() < self._probe_at

    def begin(self) -> int | None:
        """Begin an attempt; return the epoch to pass to `end`, None if the attempt is refused."""
        if self.refuses:
            return None
        if self.state is not BreakerState.CLOSED:
            self._probing = True
            self._epoch += 1
            self._change(BreakerState.HALF_OPEN)
        return self._epoch

    def end(self, epoch: int, failed: bool | None) -> None:
        """An attempt has ended. `failed` is None if that says nothing of the target."""
        if epoch != self._epoch:
            return
        if self.state is not BreakerState.HALF_OPEN:
            if failed is not None and self._too_many(failed):
                self._open()
            return
        self._probing = False
        if failed:
            self._open()
        elif failed is False:
            self._epoch += 1
            self._window = _Window(self._policy.within)
            self._change(BreakerState.CLOSED)

    def _too_many(self, failed: bool) -> bool:
        ended, failures = self._window.add(self._clock(), failed)
        policy = self._policy
        return failed and ended >= policy.of_at_least and failures >= policy.failures * ended

    def _open(self) -> None:
        self._epoch += 1
        self._probe_at = self._clock() + self._policy.pause
        self._change(BreakerState.OPEN)

    def _change(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self.changed(state)


class _Window:
    """Counts the attempts that ended lately, and how many of them failed."""

    def __init__(self, within: float) -> None:
        self._width = within / SLICES
        #: Lists of a slice's number, how many attempts ended in it, and how many of them failed.
        self._slices: deque[list[int]] = deque()
        self._ended = self._failed = 0

    def add(self, now: float, failed: bool) -> tuple[int, int]:
        """Count one more end; return how many there were in all, and how many failed."""
        number = int(now / self._width)
        while self._slices and self._slices[0][0] <= number - SLICES:
            _, ended, failures = self._slices.popleft()
            self._ended -= ended
            self._failed -= failures
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed
        self._ended += 1
        self._failed += failed
        return self._ended, self._failed


#: More attempts than would ever begin at a time.
_ANY_NUMBER: Final = 1 << 30

#: The reasons which mean that the target refuses the event, like a 4xx; and the 4xx that do not
#: mean that: too slow, and too many.
_REFUSALS: Final = frozenset({Reason.CODE, Reason.LOOPING})
_NO_REFUSALS: Final = frozenset({408, 429})


class Gate:
    """A target's pause, breaker and rate; always open if it has none of them.

    State belongs to the target's name. A reload keeps the parts whose policy and address stay.
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
        self._changed = changed
        self.apply_pause(None)
        self.breaker: Breaker | None = None
        self.pace: Pace | None = None
        if target.breaker is not None:
            kept = before.breaker if before is not None and before._agrees(target) else None
            self.breaker = kept or Breaker(target.breaker, clock)
        if target.rate is not None:
            kept_pace = before is not None and before._target.rate == target.rate
            self.pace = before.pace if before and kept_pace else Pace(target.rate, clock)

    def take_effect(self) -> None:
        """Let the breaker report this target, which is in force now. Its gates may share one."""
        if self.breaker is not None:
            self.breaker.changed = partial(self._changed, self._target)

    def _agrees(self, target: Target) -> bool:
        """The results that its breaker counted hold for the target as well."""
        return (self._target.breaker, self._target.url) == (target.breaker, target.url)

    def apply_pause(self, pause: Pause | None, left: float = 0.0) -> None:
        """Pause the target for so many seconds more; with None, end a person's pause."""
        self._held: Pause | None = pause
        self._held_until = self._clock() + left
        target = self._target
        self.is_always_open = not (pause or target.paused or target.breaker or target.rate)

    @property
    def pause(self) -> Pause | None:
        """A person's pause, as long as it lasts."""
        return self._held if self._held and self._clock() < self._held_until else None

    @property
    def is_paused(self) -> bool:
        return self._target.paused or self.pause is not None

    @property
    def refusal(self) -> Reason | None:
        """The reason why no attempt may begin now, however long it would wait."""
        if self.is_paused:
            return Reason.PAUSED
        if self.breaker is not None and self.breaker.refuses:
            return Reason.BREAKER_OPEN
        return None

    @property
    def state(self) -> BreakerState | None:
        """The breaker's; None without a breaker."""
        return None if self.breaker is None else self.breaker.state

    def room(self, within: float, *, keeps_burst: bool = False) -> int:
        """Return how many attempts could begin within so many seconds; see `Pace.room`."""
        if self.refusal is not None:
            return 0
        room = _ANY_NUMBER if self.pace is None else self.pace.room(within, keeps_burst=keeps_burst)
        return room if self.state in (None, BreakerState.CLOSED) else min(room, 1)

    def end(self, epoch: int, attempt: Attempt | None) -> None:
        """Count the end of an attempt for the breaker; None if it was broken off."""
        breaker, policy = self.breaker, self._target.breaker
        if breaker is not None and policy is not None:
            counts = policy.refusals == "count"
            breaker.end(epoch, None if attempt is None else shows_failure(attempt, refusals=counts))


def shows_failure(attempt: Attempt, *, refusals: bool) -> bool | None:
    """Return whether an attempt shows that its target fails; None if it shows nothing of the
    target.

    With `refusals`, an answer that refuses the event counts as a failure.
    """
    if attempt.acknowledged:
        return False
    if attempt.reason in SELF_INFLICTED:
        return None
    # The target works if it has understood the event and does not want it.
    status = attempt.status or 0
    by_status = 400 <= status < 500 and status not in _NO_REFUSALS
    refuses = by_status if attempt.reason is Reason.STATUS else attempt.reason in _REFUSALS
    return refusals or not refuses


#: How long a streak of failures has to last before it is reported, and after how long it is
#: reported again, in seconds.
REPORT_AFTER, REPORT_AGAIN_AFTER = 300.0, 3600.0

#: The endpoint does not exist, or is gone for good: this is reported at once.
_NOT_THERE: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Failing:
    """A streak of failures, as it is reported."""

    #: Unix time, in seconds.
    since: float
    attempts: int
    #: The last attempt; an acknowledgement if the streak is over.
    last: Attempt


class Streak:
    """Follows a target's failures, and signs that it works. Attempts that the router itself held
    back do not count."""

    def __init__(self) -> None:
        #: The last sign that the target works: an `acknowledged` attempt, `breaker_closed` or
        #: `pause_ended`; `""` after a failure, and until there is a sign.
        self.sign_of_life = ""
        #: The time of the first failure; 0 while there are none.
        self.since = 0.0
        self._attempts = 0
        self._reported = False
        self._report_at = 0.0

    def add(self, attempt: Attempt, now: float) -> Failing | None:
        """Count an attempt that has ended; return what to report now, if anything is. `now` is
        Unix time, in seconds."""
        if attempt.acknowledged:
            self.sign_of_life = self.sign_of_life or "acknowledged"
            over = Failing(self.since, self._attempts, attempt) if self._reported else None
            self.since, self._attempts, self._reported = 0.0, 0, False
            return over
        if attempt.reason in SELF_INFLICTED:
            return None
        self.sign_of_life = ""
        if not self.since:
            self.since, self._report_at = now, now + REPORT_AFTER
        self._attempts += 1
        at_once = attempt.status in _NOT_THERE and not self._reported
        if now < self._report_at and not at_once:
            return None
        self._reported, self._report_at = True, now + REPORT_AGAIN_AFTER
        return Failing(self.since, self._attempts, attempt)
