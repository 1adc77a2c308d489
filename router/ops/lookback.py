"""Reading back the time before the start from the archive: the last hour by the minute, attempts at
targets, and rejected callbacks. Without an archive they are counted since the start."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from contextlib import suppress
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Final, TypedDict

from router.archive.reading import Question, Sources
from router.archive.segments import REFUSED, segments_in
from router.archive.trace.lines import AtTargetView, CallerInfo, EventLine
from router.config.loading import Config
from router.delivery import rules
from router.model.event import FIELDS, SELF_INFLICTED, Attempt, Event, Reason
from router.ops.hour import (
    ALL_EVENTS,
    ATTEMPT_BOUNDS,
    EVENT_BOUNDS,
    HOUR,
    RETRIES,
    Counts,
)
from router.ops.insight import Insight
from router.ops.problems import Rejected
from router.ops.searching import Search
from router.store.admin import Admin
from router.telemetry import health
from router.telemetry.health import MINUTE
from router.telemetry.metrics import GONE, UNMATCHED, Metrics

#: The most lines that are read, the newest, and the longest time for it, in seconds.
MAX_LINES, MAX_SECONDS = 100_000, 5.0
MAX_REJECTED = 10_000


class Earlier(TypedDict):
    """The counts of an earlier process."""

    #: Since when they are complete; Unix time, in seconds, here and below.
    since: float
    #: A minute's number, `""` or a target, and the counts: `[what, number]`.
    minutes: list[tuple[int, str, list[tuple[str | int, int]]]]
    #: A target, a minute's number, when its first attempt failed, and how many did, of how many.
    attempts: list[tuple[str, int, float, int, int]]
    #: By target its last acknowledgement, and its last failure.
    acknowledged: dict[str, float]
    failures: dict[str, tuple[float, AtTargetView]]
    #: The oldest first: `[kind, fault or key, time, body's hash, the event's other fields]`.
    rejected: list[tuple[str, str, float, str, tuple[str, ...]]]


async def find_earlier(
    until: float, ends: float, sources: Sources, _: Admin | None
) -> Earlier | None:
    """Return the counts of the hour before `until`, and the rejected callbacks that EBaaS still
    retries, for so many seconds. Return None if there is no archive."""
    if sources.archive is None:
        return None
    tally = _Tally()
    tally.since = until - HOUR * MINUTE
    deadline = time.monotonic() + MAX_SECONDS
    for number, line in enumerate(sources.look(Question(since=tally.since, until=until))):
        if number >= MAX_LINES or time.monotonic() > deadline:
            tally.since = line.at
            break
        tally.add(line)
    since = max(tally.since, until if sources.start is None else sources.start)
    refused = Sources(sources.archive / REFUSED).look(Question(since=until - ends, until=until))
    rejected: list[tuple[str, str, float, str, tuple[str, ...]]] = []
    deadline = time.monotonic() + MAX_SECONDS / 2
    for line in islice(refused, MAX_REJECTED):
        if time.monotonic() > deadline:
            break
        if isinstance(line, CallerInfo):
            rejected.append((*_rejection(line), line.at, line.digest, line.parts))
    return Earlier(
        since=since,
        minutes=[(at, name, [*counts.items()]) for (at, name), counts in tally.minutes.items()],
        attempts=[
            (name, at, minute.failed_at, minute.failed, minute.attempts)
            for (name, at), minute in sorted(tally.attempts.items(), key=itemgetter(0))
        ],
        acknowledged=tally.acknowledged,
        failures=tally.failures,
        rejected=rejected[::-1],
    )


def _rejection(line: CallerInfo) -> tuple[str, str]:
    if line.view["what"] == "unmatched":
        return UNMATCHED, line.event_key
    return line.view["code"], line.view["why"]


class _Tally:
    """Counts lines, the newest first."""

    def __init__(self) -> None:
        self.since = 0.0
        self.minutes: defaultdict[tuple[int, str], Counts] = defaultdict(Counter)
        self.attempts: defaultdict[tuple[str, int], health.Minute] = defaultdict(health.Minute)
        self.acknowledged: dict[str, float] = {}
        self.failures: dict[str, tuple[float, AtTargetView]] = {}

    def add(self, line: EventLine) -> None:
        at = int(line.at // MINUTE)
        if isinstance(line, CallerInfo) and line.view["what"] != "refused":
            code, counts = line.view["code"], self.minutes[at, ALL_EVENTS]
            counts[code or GONE] += 1
            counts[RETRIES] += (line.view["request"] or 1) > 1
            if code:
                counts[bisect_left(EVENT_BOUNDS, (line.view["ms"] or 0.0) / 1000)] += 1
        for result in line.results:
            self._add_attempt(at, line.at, result)

    def _add_attempt(self, at: int, time: float, result: AtTargetView) -> None:
        name, reason = result["target"], result["reason"]
        # Other reasons, such as that of a removed target, are not those of attempts.
        if result["ms"] is None or result["joined"] or reason not in _REASONS:
            return
        counts = self.minutes[at, name]
        counts[reason] += 1
        if reason in SELF_INFLICTED:
            return
        counts[bisect_left(ATTEMPT_BOUNDS, result["ms"] / 1000)] += 1
        minute = self.attempts[name, at]
        minute.attempts += 1
        if reason == Reason.ACKNOWLEDGED:
            self.acknowledged.setdefault(name, time)
        else:
            self.failures.setdefault(name, (time, result))
            minute.failed, minute.failed_at = minute.failed + 1, time


_REASONS: Final = frozenset(map(str, Reason))


async def read_back(archive: Path | None, insight: Insight, search: Search) -> None:
    """Add the counts of an earlier process to those of this one. If the archive cannot be read,
    they are counted since the start."""
    until = insight.metrics.counted_since
    with suppress(OSError, Rejected):
        if archive is not None and await asyncio.to_thread(_has_earlier, archive, until):
            ends = rules.ends_at(0.0, insight.config_state.config.terms)
            earlier = await search.run(partial(find_earlier, until, ends), store=False)
            if earlier is not None:
                await _add(insight, earlier)


def _has_earlier(archive: Path, until: float) -> bool:
    return any(each.first < until for each in segments_in(archive, archive / REFUSED))


async def _add(insight: Insight, earlier: Earlier) -> None:
    metrics = insight.metrics
    minutes: defaultdict[int, dict[str, Counts]] = defaultdict(dict)
    for at, name, counts in earlier["minutes"]:
        minutes[at][name] = Counter(dict(counts))
    await insight.history.restore(minutes)
    metrics.counted_since = earlier["since"]
    metrics.had_events_before = any(name == ALL_EVENTS for _, name, _ in earlier["minutes"])
    for kind, what, when, body, parts in earlier["rejected"]:
        fields = {**dict(zip(FIELDS, parts, strict=False)), "event_key": what}
        metrics.reject(kind, what, when, body, Event.of(fields) if kind == UNMATCHED else None)
    forget_matched(metrics, insight.config_state.config)
    for name, last in earlier["acknowledged"].items():
        numbers = metrics.of(name)
        numbers.last_acknowledged = max(numbers.last_acknowledged, last)
    for name, (when, result) in earlier["failures"].items():
        _add_failure(metrics, name, when, result)
    await _add_attempts(metrics, earlier)


def _add_failure(metrics: Metrics, name: str, at: float, result: AtTargetView) -> None:
    numbers = metrics.of(name)
    if numbers.failure is None:
        numbers.failure = Attempt(
            Reason(result["reason"]),
            delivered=True,
            seconds=(result["ms"] or 0.0) / 1000,
            status=result["status"],
            detail=result["detail"],
            at=at,
            code=result["code"],
            msg=result["msg"],
        )


async def _add_attempts(metrics: Metrics, earlier: Earlier) -> None:
    """Add the attempts at targets. Decide their states minute by minute, so that they begin as
    early as they did. With many targets that takes a second, so callbacks come in between."""
    for name, minutes in groupby(earlier["attempts"], itemgetter(0)):
        numbers = metrics.targets.get(name)
        if numbers is None:
            continue
        for _, at, failed_at, failed, attempts in minutes:
            minute = numbers.lately.setdefault(at, health.Minute())
            minute.attempts, minute.failed = minute.attempts + attempts, minute.failed + failed
            minute.failed_at = failed_at or minute.failed_at
            numbers.judge((at + 1) * MINUTE - 1)
        await asyncio.sleep(0)
    metrics.measure()


def forget_matched(metrics: Metrics, config: Config) -> None:
    """Forget the unmatched events that would no longer get a failure, but not those that take long
    to match: many of them would block the loop."""

    def is_matched(event: Event) -> bool:
        plan = config.table.match_at_once(event)
        return plan is not None and bool(plan.routes)

    metrics.forget(
        lambda _, recent: (
            recent.event is not None and (config.unmatched == "accept" or is_matched(recent.event))
        )
    )
