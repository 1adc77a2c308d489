"""Closed-loop load by wrk: each connection sends its next event after the reply."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

from bench.processes import HERE

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """The figures of wrk."""

    events: int
    #: Events without a 2xx reply.
    failures: int
    per_second: float
    #: In milliseconds.
    median: float
    p99: float


def wrk(url: str, connections: int, seconds: int, core: int, changes: int = 2) -> Load:
    """Drive `url` for so many seconds with events of so many ids."""
    ran = subprocess.run(
        [
            *("taskset", "-c", str(core), "wrk", "--latency", "-t1", f"-c{connections}"),
            *(f"-d{seconds}s", "--timeout", "10s", "-s", str(HERE / "events.lua"), url),
        ],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "CHANGES": str(changes)},
    )
    output = ran.stdout
    events = int(_found(r"(\d+) requests in", output))
    bad = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    bad += sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", output))
    return Load(
        events,
        bad,
        float(_found(r"Requests/sec:\s+([\d.]+)", output)),
        _milliseconds(_found(r"^ +50%\s+(\S+)", output)),
        _milliseconds(_found(r"^ +99%\s+(\S+)", output)),
    )


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"unexpected output of wrk: {text}")
    return found[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
