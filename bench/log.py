"""What a log line costs: python -m bench.log

CPU time of the whole process for an event's line with three targets: rendering it, handing it over,
and what the thread does that writes. Two loops run in turn, of the same work about as heavy as an
event is, one with the line and one without; the line costs the difference, of which the table has
the median and the least. A pipe's reader is another process. `rendering` is to memory, no thread.
"""

from __future__ import annotations

import io
import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from router.telemetry import Format, Log

LINES = 4_000
ROUNDS = 15

BODY = (
    b'{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
    b'"event_key":"a.gs.cert.1","changes":["id1","id2"]}'
)

FIELDS = {
    "code": "000",
    "ms": 12.3,
    "request_id": "b372be68-6fa6-4590-b927-a4096e6a05e6",
    "event_id": "0d2dbf1a-8e0c-4b6a-9a0f-5a1d2b6f3c11",
    "targets": {
        name: {"as": "required", "reason": "acknowledged", "ms": 4.2, "status": 200}
        for name in ("certificates", "ledger", "audit")
    },
    "routes": ["everything under gs", "certificates, for the auditors"],
    "event_key": "a.gs.cert.1",
    "event_source": "a",
    "event_topic": "gs",
    "event_type": "cert",
    "event_status": "1",
    "bytes": len(BODY),
}

Opened = Callable[[], AbstractContextManager[IO[str]]]


def event(log: Log) -> None:
    log.info("event", **FIELDS)


def refusal(log: Log) -> None:
    log.warning("refused", code="400", ms=0.1, request_id="r", why="event_type: required")


def nothing(log: Log) -> None:
    """What the other loop does."""


class Work:
    """About what an event is besides its line: bytes in and out, four times, and some parsing."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()

    def once(self) -> None:
        for _ in range(4):
            self._here.send(BODY)
            json.loads(self._there.recv(4096))


def loop(log: Log, work: Work, line: Callable[[Log], None]) -> float:
    """CPU seconds, until the last line is written."""
    start = time.process_time()
    for _ in range(LINES):
        work.once()
        line(log)
    log.close(60)
    return time.process_time() - start


def measure(format: Format, line: Callable[[Log], None], opened: Opened) -> list[float]:
    """CPU microseconds per line, of each round."""
    work = Work()
    costs = []
    for _ in range(ROUNDS):
        seconds = []
        for each in (nothing, line):
            with opened() as stream:
                log = Log(stream, format)
                seconds.append(loop(log, work, each))
                assert log.lost == 0
        costs.append((seconds[1] - seconds[0]) / LINES * 1e6)
    return costs


@contextmanager
def memory() -> Iterator[IO[str]]:
    yield io.StringIO()


@contextmanager
def null() -> Iterator[IO[str]]:
    with Path(os.devnull).open("w") as stream:
        yield stream


@contextmanager
def pipe() -> Iterator[IO[str]]:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        with io.TextIOWrapper(reader.stdin) as stream:
            yield stream


ROWS: tuple[tuple[str, Format, Callable[[Log], None], Opened], ...] = (
    ("event, json, rendering", "json", event, memory),
    ("event, json, /dev/null", "json", event, null),
    ("event, json, pipe", "json", event, pipe),
    ("event, console, pipe", "console", event, pipe),
    ("refused, json, summed up", "json", refusal, pipe),
)


def main() -> None:
    print(f"{'CPU µs per line':<26}{'median':>8}{'least':>8}")
    for name, format, line, opened in ROWS:
        costs = measure(format, line, opened)
        print(f"{name:<26}{statistics.median(costs):>8.1f}{min(costs):>8.1f}", flush=True)


if __name__ == "__main__":
    main()
