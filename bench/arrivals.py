"""Open-loop load: events arrive when they are due, whether or not earlier ones are answered.

A closed loop waits with a slow server, and so leaves out just the moments that count. Here an
event's latency begins when it was due, and one that finds no free connection gets a new one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

#: No more connections than that; what arrives beyond them waits, and its latency counts.
CONNECTIONS = 512


@dataclass(frozen=True)
class Latency:
    """In milliseconds, over the events that were answered `000`."""

    events: int
    failures: int
    median: float
    p99: float
    p999: float


def arrivals(url: str, per_second: float, seconds: float, core: int) -> Latency:
    """Send events at that rate, from a process of its own on that core."""
    ran = subprocess.run(
        [
            *("taskset", "-c", str(core), sys.executable, "-m", "bench.arrivals"),
            *(url, str(per_second), str(seconds)),
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return Latency(**json.loads(ran.stdout))


class Caller(asyncio.Protocol):
    """One connection, one event at a time."""

    def __init__(self, free: Free) -> None:
        self._free = free
        self._due = 0.0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        self._due, self._answer = due, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        # Whoever is asked here sends a JSON object in one piece with its head, or in two.
        if self._answer.endswith(b"}"):
            self._free.answered(self, time.perf_counter() - self._due, b'"000"' in self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._free.lost(self)


class Free:
    """The connections, and the events that wait for one."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[Caller] = []
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._open = 0
        self.latencies: list[float] = []
        self.failures = 0
        self.left = 0

    def send(self, request: bytes, due: float) -> None:
        self.left += 1
        if self._idle:
            self._idle.pop().send(request, due)
            return
        self._waiting.append((request, due))
        if self._open < CONNECTIONS:
            self._open += 1
            asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(lambda: Caller(self), *self._address)
        self._next(caller)

    def _next(self, caller: Caller) -> None:
        if self._waiting:
            caller.send(*self._waiting.popleft())
        else:
            self._idle.append(caller)

    def answered(self, caller: Caller, seconds: float, good: bool) -> None:
        self.left -= 1
        if good:
            self.latencies.append(seconds)
        else:
            self.failures += 1
        self._next(caller)

    def lost(self, caller: Caller) -> None:
        self._open -= 1
        if caller in self._idle:
            self._idle.remove(caller)
        else:
            self.left -= 1
            self.failures += 1


async def drive(url: str, per_second: float, seconds: float) -> Latency:
    """Poisson arrivals at that rate for so long, then up to ten seconds for what is unanswered."""
    parts = urlsplit(url)
    free = Free(parts.hostname or "", parts.port or 80)
    rng = random.Random(1)
    start = due = time.perf_counter()
    number = 0
    while due < start + seconds:
        ahead = due - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        # A late wake-up sends all that have become due meanwhile.
        while due <= time.perf_counter():
            number += 1
            free.send(_request(parts.path, parts.netloc, number), due)
            due += rng.expovariate(per_second)
    until = time.perf_counter() + 10
    while free.left and time.perf_counter() < until:  # noqa: ASYNC110 - bounded
        await asyncio.sleep(0.01)
    found = sorted(free.latencies)
    median, p99, p999 = (_at(share, found) * 1000 for share in (0.5, 0.99, 0.999))
    return Latency(len(found), free.failures + free.left, median, p99, p999)


def _at(share: float, found: list[float]) -> float:
    return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


def _request(path: str, host: str, number: int) -> bytes:
    body = (
        '{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
        f'"event_key":"a.gs.cert.1","changes":["{number}-{time.time_ns()}","id2"]}}'
    ).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.arrivals", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("per_second", type=float)
    parser.add_argument("seconds", type=float)
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(drive(args.url, args.per_second, args.seconds)))))


if __name__ == "__main__":
    main()
