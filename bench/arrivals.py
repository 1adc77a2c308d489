"""Open-loop load by arrivals.c: events arrive when they are due, answered or not.

A closed loop waits with a slow server, and so leaves out just the moments that count. Here an
event's latency begins when it was due. That the figures are the server's and not the generator's,
its own are beside them: how late it noticed events, and which part of its core it took.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SOURCE = Path(__file__).with_name("arrivals.c")
PROGRAM = Path(__file__).parent.parent / ".tools" / "arrivals"

#: The key of events that every target of the bench gets.
KEY = "a.gs.cert.1"


@dataclass(frozen=True)
class Latency:
    """In milliseconds, over the events that were answered `000`."""

    events: int
    failures: int
    median: float
    p90: float
    p99: float
    most: float
    #: How late the generator noticed events: it sends them then, if a connection is free.
    late_p99: float


def arrivals(
    url: str, per_second: float, seconds: float, core: int, key: str = KEY, *, warm: float = 1.0
) -> Latency:
    """Send events of that key at that rate, from a process of its own on that core; `seconds`
    count, and not those before that it is warming up."""
    parts = urlsplit(url)
    where = (parts.hostname or "", str(parts.port or 80), parts.path)
    rate = map(str, (per_second, warm, seconds))
    command = ["taskset", "-c", str(core), str(program()), *where, key, *rate]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
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
    failures, _ = first.split()
    # When each was due, how late the generator noticed it, and its latency, in seconds.
    events = [[float(word) * 1000 for word in line.split()] for line in lines]
    latencies = sorted(latency for _, _, latency in events)
    lates = sorted(late for _, late, _ in events)
    return Latency(
        len(events),
        int(failures),
        median=percentile(0.5, latencies),
        p90=percentile(0.9, latencies),
        p99=percentile(0.99, latencies),
        most=percentile(1.0, latencies),
        late_p99=percentile(0.99, lates),
    )


def percentile(share: float, ordered: Sequence[float]) -> float:
    """The value below which that share of them is; 0 where there is none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
