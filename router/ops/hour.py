"""The last hour by the minute. A minute's counts are the growth of the metrics, so events cost
nothing for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from router.model.event import SUCCESS, Reason
from router.telemetry.log.lines import utc
from router.telemetry.metrics import PROCESS, TARGET, Metrics

#: The number of minutes that are kept, the current one included; and the seconds of one.
HOUR, MINUTE = 60, 60

#: The upper bounds of the buckets of time, in seconds.
EVENT_BOUNDS = PROCESS["event_seconds"].buckets
ATTEMPT_BOUNDS = TARGET["attempt_seconds"].buckets

#: The key of all events, among the names of targets.
ALL_EVENTS = ""


class _MinutesView(TypedDict):
    #: When the first of the minutes began.
    at: str
    failed: list[int]
    #: The latency in milliseconds of half of them, and of 99 in 100; null if there are none.
    p50_ms: list[float | None]
    p99_ms: list[float | None]


class EventsHour(_MinutesView):
    """All events by the minute, the oldest first; the last minute is not over. Those without `000`
    failed."""

    events: list[int]


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


@dataclass(frozen=True, slots=True)
class Counted:
    """Numbers of events, or of attempts at a target."""

    #: Numbers by the code of the reply, or by the reason.
    ends: Counter[str] = field(default_factory=Counter)
    #: Numbers by the index of the bucket of time.
    seconds: Counter[int] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.ends.total()

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.ends + other.ends, self.seconds + other.seconds)

    def __sub__(self, other: Counted) -> Counted:
        """Subtract, but not below zero: a target that was removed and added again begins anew."""
        return Counted(self.ends - other.ends, self.seconds - other.seconds)

    def quantile_ms(self, part: float, bounds: Sequence[float]) -> float | None:
        return quantile(part, [self.seconds[each] for each in range(len(bounds) + 1)], bounds)


#: The counts of a minute: of ALL_EVENTS, and of each target that had an attempt.
Minute = dict[str, Counted]

_NOTHING = Counted()


class History:
    """The minutes of the last hour. It is used on the event loop."""

    def __init__(self, metrics: Metrics, now: float) -> None:
        """`now` is Unix time, in seconds, here and below."""
        self._metrics = metrics
        self._at = int(now // MINUTE)
        self._before = _reading(metrics)
        #: Minutes that are over, by their number in Unix time.
        self._over: dict[int, Minute] = {}

    def look(self, now: float) -> None:
        """Close the current minute if it is over. It is called several times a minute."""
        at = int(now // MINUTE)
        if at == self._at:
            return
        self._over[self._at] = self._current()
        self._at, self._before = at, _reading(self._metrics)
        self._over = {each: minute for each, minute in self._over.items() if each > at - HOUR}

    def minutes(self) -> dict[int, Minute]:
        """Return the minutes by their number, the current one included."""
        return {**self._over, self._at: self._current()}

    def _current(self) -> Minute:
        grown = {
            name: each - self._before.get(name, _NOTHING)
            for name, each in _reading(self._metrics).items()
        }
        return {name: counted for name, counted in grown.items() if counted.ends}


def _reading(metrics: Metrics) -> Minute:
    """Return the counts since the start."""
    counts = {name: (each.attempts, each.attempt_seconds) for name, each in metrics.targets.items()}
    counts[ALL_EVENTS] = metrics.events, metrics.event_seconds
    return {
        name: Counted(Counter(ends), Counter(dict(enumerate(seconds.counts))))
        for name, (ends, seconds) in counts.items()
    }


class Hour:
    """The last hour, minute by minute."""

    def __init__(self, minutes: dict[int, Minute], now: float) -> None:
        last = int(now // MINUTE)
        self._at = utc((last - HOUR + 1) * MINUTE)
        self._minutes = [minutes.get(each, {}) for each in range(last - HOUR + 1, last + 1)]

    def events(self) -> EventsHour:
        each = [minute.get(ALL_EVENTS, _NOTHING) for minute in self._minutes]
        return EventsHour(
            events=[minute.count for minute in each], **self._view(each, SUCCESS, EVENT_BOUNDS)
        )

    def attempts(self, targets: Collection[str]) -> AttemptsHour:
        """Return the attempts at these targets, together."""
        each = [
            _sum(minute[name] for name in targets if name in minute) for minute in self._minutes
        ]
        return AttemptsHour(
            attempts=[minute.count for minute in each],
            **self._view(each, Reason.ACKNOWLEDGED, ATTEMPT_BOUNDS),
        )

    def _view(
        self, minutes: Sequence[Counted], success: str, bounds: Sequence[float]
    ) -> _MinutesView:
        return _MinutesView(
            at=self._at,
            failed=[minute.count - minute.ends[success] for minute in minutes],
            p50_ms=[minute.quantile_ms(0.5, bounds) for minute in minutes],
            p99_ms=[minute.quantile_ms(0.99, bounds) for minute in minutes],
        )

    def sums(self, target: str) -> HourSums:
        hour = _sum(minute[target] for minute in self._minutes if target in minute)
        acknowledged = hour.ends[Reason.ACKNOWLEDGED]
        return HourSums(
            attempts=hour.count,
            acknowledged=acknowledged,
            failed=hour.count - acknowledged,
            p50_ms=hour.quantile_ms(0.5, ATTEMPT_BOUNDS),
            p99_ms=hour.quantile_ms(0.99, ATTEMPT_BOUNDS),
            reasons={r: count for r, count in hour.ends.items() if r != Reason.ACKNOWLEDGED},
        )


def _sum(counted: Iterable[Counted]) -> Counted:
    return sum(counted, _NOTHING)


def quantile(part: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Return a quantile in milliseconds, interpolated within its bucket as Prometheus does it; None
    for no counts. Counts above all bounds count as the last bound."""
    rank = part * sum(counts)
    if not rank:
        return None
    below, lower = 0, 0.0
    for count, upper in zip(counts, bounds, strict=False):
        if below + count >= rank:
            return round(1000 * (lower + (upper - lower) * (rank - below) / count), 1)
        below, lower = below + count, upper
    return round(1000 * bounds[-1], 1)
