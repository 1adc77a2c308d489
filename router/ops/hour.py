"""The last hour by the minute. A minute's counts are the growth of the metrics, so events cost
nothing for it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NotRequired, TypedDict

from router.model.event import SUCCESS, Reason
from router.telemetry.health import MINUTE
from router.telemetry.log.lines import utc
from router.telemetry.metrics import PROCESS, TARGET, Metrics

#: The number of minutes that are kept, the current one included.
HOUR = 60

#: The upper bounds of the buckets of time, in seconds.
EVENT_BOUNDS = PROCESS["event_seconds"].buckets
ATTEMPT_BOUNDS = TARGET["attempt_seconds"].buckets

#: The key of all events, among the names of targets.
ALL_EVENTS = ""

#: The key of EBaaS's retries among its counts: neither a code nor a bucket.
RETRIES = -1


class _MinutesView(TypedDict):
    #: When the first of the minutes began, and since when they are counted: null if all are.
    at: str
    counted_since: str | None
    failed: list[int]
    #: The latency in milliseconds of half of them, and of 99 in 100; null if there are none.
    p50_ms: list[float | None]
    p99_ms: list[float | None]


class EventsHour(_MinutesView):
    """All events by the minute, the oldest first; the last minute is not over. Those without `000`
    failed."""

    events: list[int]
    #: EBaaS's retries among them; a team's token does not see them.
    retries: NotRequired[list[int]]


class AttemptsHour(_MinutesView):
    """The attempts at a target, or at several, by the minute, likewise."""

    attempts: list[int]


class HourSums(TypedDict):
    """The attempts at a target in the whole hour."""

    attempts: int
    acknowledged: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None
    #: The failed ones by their reason.
    reasons: dict[str, int]
    #: The failed ones by the minute, as in AttemptsHour; empty if there are none.
    failed_minutes: list[int]


#: Numbers of events, or of attempts at a target: by the code of the reply, or the reason; and by
#: the index of the bucket of time.
Counts = Counter[str | int]

#: The counts of a minute: of ALL_EVENTS, and of each target that had an attempt.
Minute = dict[str, Counts]


class History:
    """The minutes of the last hour. Any thread may read them."""

    def __init__(self, metrics: Metrics, now: float) -> None:
        """`now` is Unix time, in seconds, here and below."""
        self._metrics = metrics
        #: The current minute's number in Unix time, the counts when it began, and by their numbers
        #: the minutes that are over. Replaced as a whole, because threads read it.
        self._state: tuple[int, Minute, dict[int, Minute]] = (
            int(now // MINUTE),
            _reading(metrics),
            {},
        )
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Close each minute once it is over. In a thread: with 50,000 targets it takes 0.3 s."""
        while True:
            await asyncio.sleep(MINUTE - time.time() % MINUTE)
            async with self._turn:
                await asyncio.to_thread(self.look, time.time())

    @property
    def since(self) -> float:
        """Since when they are counted."""
        return self._metrics.counted_since

    def look(self, now: float) -> None:
        """Close the current minute if it is over. Targets change their states also if nobody asks
        for them."""
        at = int(now // MINUTE)
        if at != self._state[0]:
            self._metrics.judge(now)
            reading = _reading(self._metrics)
            minutes = self._until(reading).items()
            kept = {begun: minute for begun, minute in minutes if begun > at - HOUR}
            self._state = at, reading, kept

    async def restore(self, minutes: dict[int, Minute]) -> None:
        """Add minutes of an earlier process. Both may have a part of the same one."""
        async with self._turn:
            at, before, over = self._state
            merged = {number: {**minute} for number, minute in over.items()}
            for number, counts in minutes.items():
                minute = merged.setdefault(number, {})
                for name, more in counts.items():
                    minute[name] = minute.get(name, _NONE) + more
            self._state = at, before, merged

    def minutes(self) -> dict[int, Minute]:
        """Return the minutes by their number, the current one included."""
        return self._until(_reading(self._metrics))

    def _until(self, reading: Minute) -> dict[int, Minute]:
        at, before, over = self._state
        current: Minute = {}
        for name, counts in reading.items():
            # A Counter does not fall below zero: a target that was removed and added begins anew.
            if grown := counts - before.get(name, _NONE):
                current[name] = grown
        for name, counts in over.get(at, {}).items():  # of an earlier process
            current[name] = current.get(name, _NONE) + counts
        return {**over, at: current}


_NONE: Counts = Counter()


def _reading(metrics: Metrics) -> Minute:
    """Return the counts since the start, without zeros."""
    numbers = {name: (of.attempts, of.attempt_seconds) for name, of in metrics.targets.items()}
    numbers[ALL_EVENTS] = metrics.events, metrics.event_seconds
    reading: Minute = {}
    for name, (ends, seconds) in numbers.items():
        counts: dict[str | int, int] = {
            end: int(count) for end, count in dict(ends).items() if count
        }
        counts.update((bucket, count) for bucket, count in enumerate(seconds.counts) if count)
        reading[name] = Counter(counts)
    reading[ALL_EVENTS][RETRIES] = metrics.claims
    return reading


class Hour:
    """The last hour, minute by minute."""

    def __init__(self, history: History, now: float) -> None:
        minutes, since = history.minutes(), history.since
        first = int(now // MINUTE) - HOUR + 1
        self._at = utc(first * MINUTE)
        self._since = utc(since) if since > first * MINUTE else None
        self._minutes = [minutes.get(at, {}) for at in range(first, first + HOUR)]

    def events(self) -> EventsHour:
        minutes = [minute.get(ALL_EVENTS, Counter()) for minute in self._minutes]
        numbers, retries = [*map(_total, minutes)], [counts[RETRIES] for counts in minutes]
        view = self._view(minutes, SUCCESS, EVENT_BOUNDS)
        return EventsHour(events=numbers, retries=retries, **view)

    def attempts(self, targets: Collection[str]) -> AttemptsHour:
        """Return the attempts at these targets, together."""
        minutes = [_sum([minute], targets) for minute in self._minutes]
        view = self._view(minutes, Reason.ACKNOWLEDGED, ATTEMPT_BOUNDS)
        return {"attempts": [*map(_total, minutes)], **view}

    def _view(
        self, minutes: Sequence[Counts], success: str, bounds: Sequence[float]
    ) -> _MinutesView:
        return _MinutesView(
            at=self._at,
            counted_since=self._since,
            failed=[_total(counts) - counts[success] for counts in minutes],
            p50_ms=[quantile(0.5, counts, bounds) for counts in minutes],
            p99_ms=[quantile(0.99, counts, bounds) for counts in minutes],
        )

    def sums(self, target: str) -> HourSums:
        hour = _sum(self._minutes, (target,))
        reasons = {str(end): count for end, count in hour.items() if isinstance(end, str)}
        acknowledged = reasons.pop(Reason.ACKNOWLEDGED, 0)
        minutes = (minute.get(target, Counter()) for minute in self._minutes) if reasons else ()
        return HourSums(
            attempts=_total(hour),
            acknowledged=acknowledged,
            failed=sum(reasons.values()),
            p50_ms=quantile(0.5, hour, ATTEMPT_BOUNDS),
            p99_ms=quantile(0.99, hour, ATTEMPT_BOUNDS),
            reasons=reasons,
            failed_minutes=[_total(each) - each[Reason.ACKNOWLEDGED] for each in minutes],
        )


def _sum(minutes: Sequence[Minute], targets: Collection[str]) -> Counts:
    found = (minute[name] for minute in minutes for name in targets if name in minute)
    return sum(found, Counter())


def _total(counts: Counts) -> int:
    return sum(count for end, count in counts.items() if isinstance(end, str))


def quantile(part: float, counts: Counts, bounds: Sequence[float]) -> float | None:
    """Return a quantile in milliseconds, interpolated within its bucket as Prometheus does it; None
    for no counts. Counts above all bounds count as the last bound."""
    rank = part * sum(counts[bucket] for bucket in range(len(bounds) + 1))
    if not rank:
        return None
    below, lower = 0, 0.0
    for bucket, upper in enumerate(bounds):
        if below + counts[bucket] >= rank:
            inside = (rank - below) / counts[bucket]
            return round(1000 * (lower + (upper - lower) * inside), 1)
        below, lower = below + counts[bucket], upper
    return round(1000 * bounds[-1], 1)
