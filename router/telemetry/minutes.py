"""The last hour by the minute, for pages: no event costs anything for it. A minute is what the
metrics' own numbers have grown by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from router.model.event import SUCCESS
from router.telemetry.metrics import Metrics
from router.telemetry.metrics.snapshot import PROCESS, TARGET

#: How many minutes are kept, the one that is going on included.
HOUR = 60

#: Seconds of one.
MINUTE = 60

#: The upper bounds of the buckets of time, in seconds; one more is for what is above all of them.
EVENT_BOUNDS = PROCESS["event_seconds"].buckets
ATTEMPT_BOUNDS = TARGET["attempt_seconds"].buckets


class TargetMinute(TypedDict):
    """A target's attempts: how many by how they ended, and how many in each bucket of time."""

    reasons: dict[str, int]
    seconds: list[int]


class Minute(TypedDict):
    """What a process counted in it; targets that had no attempt are left out."""

    events: int
    #: Those that were not told `000`.
    failed: int
    #: How many in each bucket of time.
    seconds: list[int]
    targets: dict[str, TargetMinute]


class Minutes:
    """Kept on the loop of the process whose metrics these are."""

    def __init__(self, metrics: Metrics, now: float) -> None:
        """`now` is Unix time, in seconds, here and below."""
        self._metrics = metrics
        self._at = int(now // MINUTE)
        self._before = _reading(metrics)
        #: By the number of the minute, in Unix time; those that are over.
        self._over: dict[int, Minute] = {}

    def look(self, now: float) -> None:
        """Close the minute, where it is over; called some times in each."""
        at = int(now // MINUTE)
        if at == self._at:
            return
        self._over[self._at] = self._going_on()
        self._at, self._before = at, _reading(self._metrics)
        # What is ahead was counted before the clock was set back.
        kept = range(at - HOUR + 1, at + HOUR)
        self._over = {each: minute for each, minute in self._over.items() if each in kept}

    def told(self) -> dict[int, Minute]:
        """By the number of the minute; the one that goes on is among them."""
        return {**self._over, self._at: self._going_on()}

    def _going_on(self) -> Minute:
        """A clock that was set back is in a minute that was over already."""
        before = [self._over[self._at]] if self._at in self._over else []
        return summed([*before, _grown(_reading(self._metrics), self._before)])


def summed(minutes: Sequence[Minute]) -> Minute:
    """One minute, of several parts."""
    names = dict.fromkeys(name for minute in minutes for name in minute["targets"])
    return Minute(
        events=sum(minute["events"] for minute in minutes),
        failed=sum(minute["failed"] for minute in minutes),
        seconds=added([minute["seconds"] for minute in minutes]),
        targets={
            name: summed_target([m["targets"][name] for m in minutes if name in m["targets"]])
            for name in names
        },
    )


def summed_target(minutes: Sequence[TargetMinute]) -> TargetMinute:
    reasons = dict.fromkeys(reason for minute in minutes for reason in minute["reasons"])
    return TargetMinute(
        reasons={each: sum(m["reasons"].get(each, 0) for m in minutes) for each in reasons},
        seconds=added([minute["seconds"] for minute in minutes]),
    )


def added(counts: Sequence[Sequence[int]]) -> list[int]:
    """Bucket by bucket."""
    return [sum(each) for each in zip(*counts, strict=True)]


def _reading(metrics: Metrics) -> Minute:
    """All that was counted so far."""
    events = int(sum(metrics.events.values()))
    return Minute(
        events=events,
        failed=events - int(metrics.events[SUCCESS]),
        seconds=[*metrics.event_seconds.counts],
        targets={
            name: TargetMinute(
                reasons={each: int(count) for each, count in numbers.attempts.items()},
                seconds=[*numbers.attempt_seconds.counts],
            )
            for name, numbers in metrics.targets.items()
        },
    )


def _grown(later: Minute, before: Minute) -> Minute:
    """What has come since."""
    targets = {
        name: _target_grown(each, before["targets"].get(name))
        for name, each in later["targets"].items()
    }
    return Minute(
        events=later["events"] - before["events"],
        failed=later["failed"] - before["failed"],
        seconds=_less(later["seconds"], before["seconds"]),
        targets={name: each for name, each in targets.items() if each["reasons"]},
    )


def _target_grown(later: TargetMinute, before: TargetMinute | None) -> TargetMinute:
    """One that is new in the configuration began at nothing."""
    if before is None:
        before = TargetMinute(reasons={}, seconds=[0] * len(later["seconds"]))
    grown = {each: n - before["reasons"].get(each, 0) for each, n in later["reasons"].items()}
    return TargetMinute(
        reasons={reason: count for reason, count in grown.items() if count > 0},
        seconds=_less(later["seconds"], before["seconds"]),
    )


def _less(later: Sequence[int], before: Sequence[int]) -> list[int]:
    """Never below nothing: a target that left the configuration and came back begins anew."""
    return [max(0, after - count) for after, count in zip(later, before, strict=True)]
