"""Open-loop load: events arrive when they are due, whether or not earlier ones are answered.

A closed loop waits with a slow server, and so leaves out just the moments that count. Here an
event's latency begins when it was due, and one that finds no free connection gets a new one. No
event loop: asyncio's timers come up to a millisecond late, which is what is to be measured.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

#: No more connections than that; what arrives beyond them waits, and its latency counts.
CONNECTIONS = 512

#: Before the figures begin, in seconds: connections are made, and caches are warm.
WARM = 1.0

#: How long what is unanswered at the end may take, in seconds.
PATIENCE = 10.0


@dataclass(frozen=True)
class Latency:
    """In milliseconds, over the events that were answered `000`."""

    events: int
    failures: int
    median: float
    p99: float
    p999: float


#: The key of events that every target of the bench gets.
KEY = "a.gs.cert.1"


def arrivals(url: str, per_second: float, seconds: float, core: int, key: str = KEY) -> Latency:
    """Send events of that key at that rate, from a process of its own on that core."""
    ran = subprocess.run(
        [
            *("taskset", "-c", str(core), sys.executable, "-m", "bench.arrivals"),
            *(url, str(per_second), str(seconds), key),
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return Latency(**json.loads(ran.stdout))


class Caller:
    """One connection, one event at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._answer = b""

    def send(self, request: bytes, due: float) -> None:
        self.due, self._answer = due, b""
        self.socket.sendall(request)

    def hear(self) -> bytes | None:
        """The answer, once it is whole; None before. Raises OSError at a connection's end."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionResetError
        self._answer += piece
        # Whoever is asked here sends a JSON object in one piece with its head, or in two.
        return self._answer if self._answer.endswith(b"}") else None


class Callers:
    """The connections, and the events that wait for one."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._selector = selectors.SelectSelector()  # the one that wakes to the microsecond
        self._idle: list[Caller] = []
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._open = 0
        self.unanswered = 0
        #: When each event was due, and its latency; only what was answered `000`.
        self.answered: list[tuple[float, float]] = []
        self.failures = 0

    def send(self, request: bytes, due: float) -> None:
        self.unanswered += 1
        if self._idle:
            self._idle.pop().send(request, due)
        elif self._open < CONNECTIONS:
            caller = Caller(self._address)
            self._open += 1
            self._selector.register(caller.socket, selectors.EVENT_READ, caller)
            caller.send(request, due)
        else:
            self._waiting.append((request, due))

    def hear(self, until: float) -> None:
        """Wait for answers until then, or take those that are there."""
        for key, _ in self._selector.select(max(0.0, until - time.perf_counter())):
            caller: Caller = key.data
            try:
                answer = caller.hear()
            except OSError:
                self._lose(caller)
                continue
            if answer is not None:
                self._take(caller, answer)

    def _take(self, caller: Caller, answer: bytes) -> None:
        self.unanswered -= 1
        if b'"000"' in answer:
            self.answered.append((caller.due, time.perf_counter() - caller.due))
        else:
            self.failures += 1
        if self._waiting:
            caller.send(*self._waiting.popleft())
        else:
            self._idle.append(caller)

    def _lose(self, caller: Caller) -> None:
        self._selector.unregister(caller.socket)
        caller.socket.close()
        self._open -= 1
        if caller in self._idle:
            self._idle.remove(caller)
        else:
            self.unanswered -= 1
            self.failures += 1


def drive(url: str, per_second: float, seconds: float, key: str) -> Latency:
    """Poisson arrivals at that rate, for so long after the warm-up."""
    parts = urlsplit(url)
    callers = Callers(parts.hostname or "", parts.port or 80)
    rng = random.Random(1)
    due = time.perf_counter()
    begin, number = due + WARM, 0
    while due < begin + seconds:
        callers.hear(due)
        # A late wake-up sends all that have become due meanwhile.
        while due <= time.perf_counter():
            number += 1
            callers.send(_request(parts.path, parts.netloc, key, number), due)
            due += rng.expovariate(per_second)
    until = time.perf_counter() + PATIENCE
    while callers.unanswered and time.perf_counter() < until:
        callers.hear(until)
    found = sorted(latency for due, latency in callers.answered if due >= begin)
    median, p99, p999 = (_at(share, found) * 1000 for share in (0.5, 0.99, 0.999))
    return Latency(len(found), callers.failures + callers.unanswered, median, p99, p999)


def _at(share: float, found: list[float]) -> float:
    return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


def _request(path: str, host: str, key: str, number: int) -> bytes:
    source, topic, kind, status = key.split(".")
    body = (
        f'{{"event_source":"{source}","event_topic":"{topic}","event_type":"{kind}",'
        f'"event_status":"{status}","event_key":"{key}",'
        f'"changes":["{number}-{time.time_ns()}","id2"]}}'
    ).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.arrivals", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("per_second", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("key")
    args = parser.parse_args()
    print(json.dumps(asdict(drive(args.url, args.per_second, args.seconds, args.key))))


if __name__ == "__main__":
    main()
