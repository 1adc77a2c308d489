"""Open-loop load by arrivals.c: events arrive on schedule, whether or not earlier ones are
answered.

A closed loop waits for a slow server, and so omits the moments that matter. Here the latency of an
event begins at its scheduled time. The generator's own delay and CPU time are reported too, to show
that the figures are the server's.
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

#: The key of all events of the bench.
KEY = "a.gs.cert.1"


@dataclass(frozen=True)
class Latency:
    """Latencies in milliseconds, of events that got `000`."""

    events: int
    failures: int
    median: float
    p90: float
    p99: float
    most: float
    #: The delay of the generator. It sends at once then, if a connection is free.
    late_p99: float


def arrivals(
    url: str, per_second: float, seconds: float, core: int, key: str = KEY, *, warm: float = 1.0
) -> Latency:
    """Send events with this key at this rate from a process on this core. `seconds` are measured
    after a warm-up."""
    parts = urlsplit(url)
    where = (parts.hostname or "", str(parts.port or 80), parts.path)
    rate = map(str, (per_second, warm, seconds))
    command = ["taskset", "-c", str(core), str(program()), *where, key, *rate]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return read(ran.stdout)


def program() -> Path:
    """Return the generator, compiled if it is missing or older than its source."""
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        if shutil.which("cc") is None:
            raise SystemExit("a C compiler is missing; on Debian: apt-get install gcc libc6-dev")
        PROGRAM.parent.mkdir(exist_ok=True)
        # Under a name of its own, because two processes may compile at once.
        made = PROGRAM.with_name(f"{PROGRAM.name}.{os.getpid()}")
        subprocess.run(["cc", "-O2", "-o", made, SOURCE, "-lm"], check=True)
        made.rename(PROGRAM)
    return PROGRAM


def read(output: str) -> Latency:
    """The generator's output: its failures and its share of a core, then a line for each event."""
    first, *lines = output.splitlines()
    failures, _ = first.split()
    # For each event: its scheduled time, the generator's delay, and its latency, in seconds.
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
    """Return a percentile; 0 without values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
