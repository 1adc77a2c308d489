"""The last hour, from the counts of each minute. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypedDict

from router.model.event import Reason
from router.telemetry.log.lines import utc
from router.telemetry.minutes import (
    ATTEMPT_BOUNDS,
    EVENT_BOUNDS,
    HOUR,
    MINUTE,
    Minute,
    TargetMinute,
    summed_target,
)


class EventsHour(TypedDict):
    """All events by the minute, the oldest first; the last minute is not over."""

    #: When the first of the minutes began.
    at: str
    events: list[int]
    #: Those that were not told `000`.
    failed: list[int]
    #: Within how many milliseconds half of them were answered, and 99 in 100; null without any.
    p50_ms: list[float | None]
    p99_ms: list[float | None]


class AttemptsHour(TypedDict):
    """The attempts at a target, or at several, by the minute, likewise."""

    at: str
    attempts: list[int]
    failed: list[int]
    p50_ms: list[float | None]
    p99_ms: list[float | None]


class HourSums(TypedDict):
    """The attempts at a target over the whole hour."""

    attempts: int
    acknowledged: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None
    #: Of those that failed.
    reasons: dict[str, int]


class Hour:
    """The last hour, minute by minute."""

    def __init__(self, minutes: Mapping[int, Minute], now: float) -> None:
        """`minutes` has them by their number, in Unix time."""
        last = int(now // MINUTE)
        self._first = last - HOUR + 1
        self._minutes = [minutes.get(each) for each in range(self._first, last + 1)]

    def events(self) -> EventsHour:
        minutes = self._minutes
        seconds = [minute["seconds"] if minute else () for minute in minutes]
        return EventsHour(
            at=utc(self._first * MINUTE),
            events=[minute["events"] if minute else 0 for minute in minutes],
            failed=[minute["failed"] if minute else 0 for minute in minutes],
            p50_ms=[quantile(0.5, counts, EVENT_BOUNDS) for counts in seconds],
            p99_ms=[quantile(0.99, counts, EVENT_BOUNDS) for counts in seconds],
        )

    def attempts(self, targets: Collection[str]) -> AttemptsHour:
        """Those at these targets, together."""
        each = [self._of(minute, targets) for minute in self._minutes]
        return AttemptsHour(
            at=utc(self._first * MINUTE),
            attempts=[_all(minute) for minute in each],
            failed=[_all(minute) - _good(minute) for minute in each],
            p50_ms=[quantile(0.5, minute["seconds"], ATTEMPT_BOUNDS) for minute in each],
            p99_ms=[quantile(0.99, minute["seconds"], ATTEMPT_BOUNDS) for minute in each],
        )

    def sums(self, target: str) -> HourSums:
        minutes = [minute["targets"] for minute in self._minutes if minute]
        hour = summed_target([_NOTHING, *(each[target] for each in minutes if target in each)])
        return HourSums(
            attempts=_all(hour),
            acknowledged=_good(hour),
            failed=_all(hour) - _good(hour),
            p50_ms=quantile(0.5, hour["seconds"], ATTEMPT_BOUNDS),
            p99_ms=quantile(0.99, hour["seconds"], ATTEMPT_BOUNDS),
            reasons={
                reason: count
                for reason, count in hour["reasons"].items()
                if reason != Reason.ACKNOWLEDGED
            },
        )

    def _of(self, minute: Minute | None, targets: Collection[str]) -> TargetMinute:
        had = minute["targets"] if minute else {}
        return summed_target([_NOTHING, *(had[name] for name in targets if name in had)])


#: Without it there would be no buckets where there was no attempt.
_NOTHING = TargetMinute(reasons={}, seconds=[0] * (len(ATTEMPT_BOUNDS) + 1))


def _all(minute: TargetMinute) -> int:
    return sum(minute["reasons"].values())


def _good(minute: TargetMinute) -> int:
    return minute["reasons"].get(Reason.ACKNOWLEDGED, 0)


def quantile(part: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Within how many milliseconds that part of them was, interpolated within its bucket as
    Prometheus does it; None without any. What is above all bounds counts as the last of them."""
    wanted = part * sum(counts)
    if not wanted:
        return None
    below, lower = 0, 0.0
    for count, upper in zip(counts, bounds, strict=False):
        if below + count >= wanted:
            return round(1000 * (lower + (upper - lower) * (wanted - below) / count), 1)
        below, lower = below + count, upper
    return round(1000 * bounds[-1], 1)
