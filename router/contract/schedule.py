"""Durations and retry schedules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")


def parse_duration(text: str) -> float:
    """The seconds in `1500ms`, `8s`, `1.5s`, `2m` or `1h`. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration (like 500ms, 8s, 2m, 1h)")
    number, unit = match.groups()
    return float(number) * _SECONDS[unit]


def format_duration(seconds: float) -> str:
    """Format `8s`, `1500ms`: what parse_duration reads."""
    rounded = round(seconds, 9)
    if rounded == int(rounded):
        return f"{int(rounded)}s"
    return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


def parse_age(text: str) -> float:
    """The seconds of a duration, which may also be in days: `7d`."""
    days = re.fullmatch(r"([0-9]{1,5})d", text)
    if days is not None:
        return int(days[1]) * 86400.0
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time (like 90s, 2h, 7d)") from None


def parse_time(text: str, now: float, *, ahead: bool = False) -> float:
    """The Unix time of an ISO 8601 time, by default in UTC, or of an age like `3h` before `now`
    (`ahead`: after it). Raises ValueError for anything else."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        away = parse_age(text)
        return now + away if ahead else now - away
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A list of delays between retries, in seconds; the last one repeats."""

    waits: tuple[float, ...]
    retries: int

    def wait(self, made: int) -> float | None:
        """The delay before retry number `made` + 1, or None if there is no further retry."""
        if made >= self.retries:
            return None
        return self.waits[min(made, len(self.waits) - 1)]

    def total(self) -> float:
        """The time from the first request to the last, in seconds."""
        return sum(self.all_waits())

    def all_waits(self) -> tuple[float, ...]:
        """Every delay in order, `retries` of them."""
        repeated = self.retries - len(self.waits)
        return (self.waits + (self.waits[-1],) * max(repeated, 0))[: self.retries]

    def due(self) -> tuple[float, ...]:
        """The time of each retry after the first request, in seconds."""
        return tuple(accumulate(self.all_waits()))


#: How EBaaS retries, from the platform's page: 20 retries after 1s, 3s, 7s, 30s, 60s, 300s, 3600s…
PLATFORM = Schedule(waits=(1.0, 3.0, 7.0, 30.0, 60.0, 300.0, 3600.0), retries=20)


@dataclass(frozen=True, slots=True)
class Terms:
    """The retry schedules of EBaaS and of the queue. A request keeps those it started with."""

    #: How EBaaS retries.
    ebaas: Schedule
    #: How much later than scheduled a retry of EBaaS may come, in seconds.
    grace: float
    #: The longest time before a request is answered, in seconds.
    reply_within: float
    #: How the router retries targets without a schedule of their own.
    queue: Schedule
    #: How long EBaaS may send nothing before that is reported, in seconds; None: for ever.
    silent_after: float | None = None
