"""Durations and retry schedules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")


def parse_duration(text: str) -> float:
    """Return the seconds in `1500ms`, `1.5s`, `2m`, `1h` or `7d`. Raises ValueError otherwise."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration (like 500ms, 8s, 2m, 1h, 7d)")
    number, unit = match.groups()
    return float(number) * _SECONDS[unit]


def format_duration(seconds: float) -> str:
    """Format seconds as `8s` or `1500ms`, which parse_duration reads."""
    rounded = round(seconds, 9)
    if rounded == int(rounded):
        return f"{int(rounded)}s"
    return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


def parse_time(text: str, now: float, *, ahead: bool = False) -> float:
    """Return the Unix time of an ISO 8601 time, by default in UTC, or of a duration like `3h`
    before `now` (`ahead`: after it). Raises ValueError otherwise."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        away = parse_duration(text)
        return now + away if ahead else now - away
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A list of delays between retries, in seconds; the last one repeats."""

    waits: tuple[float, ...]
    retries: int

    def wait(self, made: int) -> float | None:
        """Return the delay before retry number `made` + 1, or None if there is no further retry."""
        if made >= self.retries:
            return None
        return self.waits[min(made, len(self.waits) - 1)]

    def total(self) -> float:
        """Return the time from the first request to the last, in seconds."""
        return sum(self.all_waits())

    def all_waits(self) -> tuple[float, ...]:
        """Return every delay in order, `retries` of them."""
        repeated = self.retries - len(self.waits)
        return (self.waits + (self.waits[-1],) * max(repeated, 0))[: self.retries]

    def due(self) -> tuple[float, ...]:
        """Return the time of each retry after the first request, in seconds."""
        return tuple(accumulate(self.all_waits()))


#: EBaaS's schedule, from the platform's page: 20 retries after 1s, 3s, 7s, 30s, 60s, 300s, 3600s…
PLATFORM = Schedule(waits=(1.0, 3.0, 7.0, 30.0, 60.0, 300.0, 3600.0), retries=20)


@dataclass(frozen=True, slots=True)
class Terms:
    """The retry schedules of EBaaS and of the queue. A request keeps those it started with."""

    #: The schedule of EBaaS.
    ebaas: Schedule
    #: The most that a retry of EBaaS may be late, in seconds.
    grace: float
    #: The longest time before a request is answered, in seconds.
    reply_within: float
    #: The router's schedule for targets without one of their own.
    queue: Schedule
    #: The silence of EBaaS after which it is reported, in seconds; None: never.
    silent_after: float | None = None
    #: A target that works again gets at once what waits for it; False: only if a person asks.
    recovers: bool = True
