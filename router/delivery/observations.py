"""Observations of EBaaS since the process's start, and how they differ from routes.yaml.

Only failures, retries and hang-ups are observed, so a healthy event costs nothing. Nothing acts on
these figures. All of them are bounded.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, TypedDict

from router.contract.schedule import Schedule, Terms, format_duration
from router.delivery.memory import Outcome
from router.model.event import SUCCESS
from router.store.protocol import Record, Stage
from router.telemetry.log.lines import utc

#: The sentence of each difference, by its code. `{}` are parameters. The page has them in Chinese.
SENTENCES: Final[Mapping[str, str]] = {
    "retry_differs": "EBaaS's {retry:nth} retry came after {seen:g} s ({count} events), "
    "routes.yaml says {configured:g} s",
    "retry_beyond": "EBaaS's {retry:nth} retry came after {seen:g} s ({count} events), "
    "routes.yaml says retries: {configured}",
    "hangs_up": "EBaaS hung up after {seen:g} s ({count} times), routes.yaml says reply_within: "
    "{configured:g} s",
    "other_bytes": "{count} requests came again with other bytes for the same event_key and "
    "changes, {same} with the same bytes; the last was {event_id} after {before}. Targets may "
    "receive such an event twice",
}

#: Fewer observations prove nothing: all their events may have been in flight during one outage of
#: the network, in which a request of each was lost.
ENOUGH: Final = 10

#: This part of the observations must be near their median, and this part of the retries must have
#: other bytes: a lost request, a slow network and two events with the same changes are exceptions.
_AGREEING, _DIFFERING = 0.8, 0.1

#: Two times are near each other if they differ by at most this part, or by so many seconds. A
#: record's credit allows for more than that.
_PART, _SECONDS = 0.25, 1.0

#: The part of the time until a hang-up that is advised for `reply_within`.
_IN_TIME: Final = 0.8

#: The same bytes after a longer time, in seconds, are likelier to be another event.
_LONGEST: Final = 12 * 3600.0

#: The bounds of the histograms, and of the events that may come again with other bytes.
MAX_RETRIES, MAX_VALUES, MAX_FAILED = 50, 64, 1000


class TallyView(TypedDict):
    """A histogram of seconds, rounded to two digits."""

    count: int
    #: The number of observations by their seconds. It has at most 64 values; only `count` includes
    #: further ones.
    seconds: dict[str, int]
    #: The median, if there are enough observations and most of them are near it.
    typical: float | None


class RetryView(TallyView):
    """The seconds from the reply to the previous request until the arrival of a retry."""

    #: The number of the retry, from 1.
    retry: int


class OtherBytesView(TypedDict):
    """The requests that came with other bytes while the retry of an event with the same event_key
    and changes was due. Two events may have both in common."""

    count: int
    #: The number of retries that had the same bytes.
    same: int
    #: The ids of the last such event and of the event before it.
    last: list[str]


class DifferenceView(TypedDict):
    """A difference between the observations and routes.yaml, as data."""

    code: str
    #: The sentence of the code, and its parameters.
    text: str
    params: dict[str, Any]


class ObservedView(TypedDict):
    """The calls of EBaaS to this process since its start."""

    since: str
    retries: list[RetryView]
    hang_ups: TallyView
    other_bytes: OtherBytesView
    differences: list[DifferenceView]
    #: The keys of routes.yaml as observed; `""` if they are right.
    yaml: str


class Tally:
    """A histogram of seconds, rounded to two digits."""

    __slots__ = ("count", "values")

    def __init__(self) -> None:
        self.count = 0
        self.values = Counter[float]()

    def add(self, seconds: float) -> None:
        self.count += 1
        value = float(f"{seconds:.1e}")
        if value in self.values or len(self.values) < MAX_VALUES:
            self.values[value] += 1

    @property
    def typical(self) -> float | None:
        """Return the median, or None if too few observations agree on it."""
        if self.count < ENOUGH:
            return None
        values = sorted(self.values)
        sums = [*accumulate(self.values[value] for value in values)]
        median = values[bisect_left(sums, sums[-1] / 2)]
        near = sum(self.values[value] for value in values if _is_near(value, median))
        return median if near >= _AGREEING * self.count else None

    @property
    def view(self) -> TallyView:
        seconds = {f"{value:g}": self.values[value] for value in sorted(self.values)}
        return {"count": self.count, "seconds": seconds, "typical": self.typical}


class _Ordinal(int):
    """A number with the format `nth`: `1st`, `2nd`, `21st`."""

    def __format__(self, _: str) -> str:
        ending = "" if 10 < self % 100 < 20 else {1: "st", 2: "nd", 3: "rd"}.get(self % 10, "")
        return str(int(self)) + (ending or "th")


class _Failed(NamedTuple):
    """An event whose retry is due."""

    digest: bytes
    event_id: str
    until: float


class Observations:
    """Counts of how EBaaS calls. Times are Unix time, in seconds."""

    def __init__(self, since: float) -> None:
        self.since = since
        #: The waits before each retry, by its number from 1.
        self.retries: dict[int, Tally] = {}
        self.hang_ups = Tally()
        self.same_bytes = self.other_bytes = 0
        #: The ids of the last event that came with other bytes, and of the event before it.
        self.last: tuple[str, ...] = ()
        #: Events that failed recently, oldest first, by the hash of their event_key and first
        #: changes: both may be long.
        self.failed: dict[int, _Failed] = {}

    def see(self, outcome: Outcome, code: str, seconds: float, changes: Sequence[str]) -> None:
        """Observe a request. `code` is `""` if its caller hung up, after so many seconds."""
        recalled = outcome.recalled
        if not code:
            self.hang_ups.add(seconds)
        if recalled.earlier is not None:
            self.retried(recalled.earlier, recalled.first_at, time.time())
        self.same_bytes += not recalled.is_new
        if not changes:
            return
        key = hash((outcome.letter.event.event_key, tuple(changes)))
        is_known = not recalled.is_new or bool(recalled.other_event_ids)
        event_id, digest, now = recalled.event_id, outcome.letter.digest, time.time()
        self.came(key, digest, event_id, now, is_known=is_known)
        wait = outcome.terms.ebaas.wait(recalled.requests - 1)
        if code != SUCCESS and wait is not None:
            # As long as its record has credit.
            self.fail(key, digest, event_id, now + 2 * wait + outcome.terms.grace)

    def retried(self, record: Record, at: float, now: float) -> None:
        """Observe that the same bytes came again at `at`; `record` is their only one."""
        wait = at - record.replied_at
        # The process may have missed a request before it started, and a record without credit may
        # be another event's.
        was_watched = 0 <= wait <= min(_LONGEST, now - self.since)
        is_retry = record.stage is not Stage.CLOSED and not record.credit_revoked
        if was_watched and is_retry and record.requests <= MAX_RETRIES:
            self.retries.setdefault(record.requests, Tally()).add(wait)

    def came(self, key: int, digest: bytes, event_id: str, now: float, *, is_known: bool) -> None:
        """Compare an event with one that has failed; `is_known`: these bytes came before."""
        failed = self.failed.pop(key, None)
        if failed is not None and failed.until >= now and not is_known and failed.digest != digest:
            self.other_bytes += 1
            self.last = (event_id, failed.event_id)
        while self.failed and self.failed[oldest := next(iter(self.failed))].until < now:
            del self.failed[oldest]

    def fail(self, key: int, digest: bytes, event_id: str, until: float) -> None:
        """Remember an event that has failed, until its retry can't come any more."""
        self.failed.pop(key, None)
        if len(self.failed) >= MAX_FAILED:
            del self.failed[next(iter(self.failed))]
        self.failed[key] = _Failed(digest, event_id, until)

    def view(self, terms: Terms) -> ObservedView:
        """Return the observations, and how they differ from these terms."""
        tallies = sorted(self.retries.items())
        return {
            "since": utc(self.since),
            "retries": [{"retry": number, **tally.view} for number, tally in tallies],
            "hang_ups": self.hang_ups.view,
            "other_bytes": {
                "count": self.other_bytes,
                "same": self.same_bytes,
                "last": [*self.last],
            },
            "differences": [
                {"code": code, "text": SENTENCES[code].format(**params), "params": params}
                for code, params in self._differences(terms)
            ],
            "yaml": self._yaml(terms),
        }

    def _differences(self, terms: Terms) -> Iterator[tuple[str, dict[str, Any]]]:
        for retry, seen in self._waits(terms.ebaas).items():
            count = self.retries[retry].count
            params = {"retry": _Ordinal(retry), "seen": seen, "count": count}
            wait = terms.ebaas.wait(retry - 1)
            if wait is None:
                yield "retry_beyond", {**params, "configured": terms.ebaas.retries}
            else:
                yield "retry_differs", {**params, "configured": wait}
        if (after := self._hangs_up(terms)) is not None:
            params = {"seen": after, "count": self.hang_ups.count}
            yield "hangs_up", {**params, "configured": terms.reply_within}
        other, same = self.other_bytes, self.same_bytes
        if other >= max(ENOUGH, _DIFFERING * (other + same)):
            event_id, before = self.last
            ids = {"event_id": event_id, "before": before}
            yield "other_bytes", {"count": other, "same": same, **ids}

    def _waits(self, schedule: Schedule) -> dict[int, float]:
        """Return the typical waits that differ from the schedule, by the number of the retry."""
        waits = {}
        for retry, tally in sorted(self.retries.items()):
            typical, configured = tally.typical, schedule.wait(retry - 1)
            if typical is not None and (configured is None or not _is_near(typical, configured)):
                waits[retry] = typical
        return waits

    def _hangs_up(self, terms: Terms) -> float | None:
        """Return when EBaaS typically hangs up, if that is before it must have a reply."""
        typical = self.hang_ups.typical
        return typical if typical is not None and typical <= terms.reply_within else None

    def _yaml(self, terms: Terms) -> str:
        lines, observed = [], self._waits(terms.ebaas)
        if (after := self._hangs_up(terms)) is not None:
            reply_within = max(round(_IN_TIME * after, 3), 0.001)
            lines.append(f"  reply_within: {format_duration(reply_within)}")
        if observed:
            retries = max(terms.ebaas.retries, *observed)
            if retries > terms.ebaas.retries:
                lines.append(f"  retries: {retries}")
            waits = [*Schedule(terms.ebaas.waits, retries).all_waits()]
            for retry, seen in observed.items():
                waits[retry - 1] = seen
            while waits[-2:-1] == waits[-1:]:  # the last one repeats
                waits.pop()
            lines.append(f"  waits: [{', '.join(map(format_duration, waits))}]")
        return "\n".join(["ebaas:", *lines]) if lines else ""


def _is_near(value: float, other: float) -> bool:
    return abs(value - other) <= max(_PART * other, _SECONDS)
