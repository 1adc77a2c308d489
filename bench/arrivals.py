"""Open-loop load by arrivals.c: events arrive when they are due, answered or not.

A closed loop waits with a slow server, and so leaves out just the moments that count. Here an
event's latency begins when it was due. That the figures are the server's and not the generator's,
its own are beside them: how late it noticed events, and which part of its core it took.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

SOURCE = Path(__file__).with_name("arrivals.c")
PROGRAM = Path(__file__).parent.parent / ".tools" / "arrivals"

#: How many of the slowest events are told of.
WORST = 10

#: The key of events that every target of the bench gets.
KEY = "a.gs.cert.1"


class Answered(NamedTuple):
    """One event that was answered `000`."""

    #: When it was due; Unix time, in seconds.
    due: float
    #: How long after that the generator noticed it, and it was answered; in milliseconds.
    late: float
    latency: float

    @property
    def ended(self) -> float:
        return self.due + self.latency / 1000


@dataclass(frozen=True)
class Latency:
    """In milliseconds, over the events that were answered `000`."""

    events: int
    failures: int
    median: float
    p90: float
    p99: float
    p999: float
    most: float
    #: The slowest one, the slowest that was not in hand at the same time as that, and so on.
    worst: tuple[Answered, ...]
    #: How late the generator noticed events: it sends them then, if a connection is free.
    late_p99: float
    late_most: float
    #: The part of its core that the generator took.
    cpu: float


def arrivals(
    url: str, per_second: float, seconds: float, core: int, key: str = KEY, *, warm: float = 1.0
) -> Latency:
    """Send events of that key at that rate, from a process of its own on that core; `seconds`
    count, and not those before that it is warming up."""
    parts = urlsplit(url)
    where = (parts.hostname or "", str(parts.port or 80), parts.path)
    ran = subprocess.run(
        [
            "taskset",
            "-c",
            str(core),
            program(),
            *where,
            key,
            *map(str, (per_second, warm, seconds)),
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return read(ran.stdout)


def program() -> Path:
    """The generator, compiled where it is missing or older than its source."""
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        if shutil.which("cc") is None:
            raise SystemExit("a C compiler is missing; on Debian: apt-get install gcc libc6-dev")
        PROGRAM.parent.mkdir(exist_ok=True)
        # Under a name of its own, for two may do so at once.
        made = PROGRAM.with_name(f"{PROGRAM.name}.{os.getpid()}")
        subprocess.run(["cc", "-O2", "-o", made, SOURCE, "-lm"], check=True)
        made.rename(PROGRAM)
    return PROGRAM


def read(said: str) -> Latency:
    """What the generator said: its failures and its share of a core, then a line an event."""
    first, *lines = said.splitlines()
    failures, cpu = first.split()
    events = []
    for line in lines:
        due, late, latency = map(float, line.split())
        events.append(Answered(due, late * 1000, latency * 1000))
    return summed_up(events, int(failures), float(cpu))


def summed_up(events: Sequence[Answered], failures: int, cpu: float) -> Latency:
    slowest_last = sorted(events, key=lambda event: event.latency)
    latencies = [event.latency for event in slowest_last]
    lates = sorted(event.late for event in events)
    return Latency(
        len(events),
        failures,
        median=percentile(0.5, latencies),
        p90=percentile(0.9, latencies),
        p99=percentile(0.99, latencies),
        p999=percentile(0.999, latencies),
        most=percentile(1.0, latencies),
        worst=tuple(apart(reversed(slowest_last), WORST)),
        late_p99=percentile(0.99, lates),
        late_most=percentile(1.0, lates),
        cpu=cpu,
    )


def apart(slowest: Iterable[Answered], most: int) -> list[Answered]:
    """The first ones of which no two were in hand at a time: those have waited for the same."""
    found: list[Answered] = []
    for event in slowest:
        if len(found) == most:
            break
        if all(event.ended < each.due or each.ended < event.due for each in found):
            found.append(event)
    return found


def percentile(share: float, ordered: Sequence[float]) -> float:
    """The value below which that share of them is; 0 where there is none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
