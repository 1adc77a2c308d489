"""What went on in the router and beside it, from when to when, and what of it an event met."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.arrivals import Answered

#: Seconds between two looks at the router's threads, and from which time on one that had the core,
#: or that had to wait for it, is told of.
_LOOK, _LONG = 0.01, 0.002

#: How long before an event something may have ended and still be told of, in seconds.
_BEFORE = 0.002


class Span(NamedTuple):
    """Something that went on; by Unix time, in seconds."""

    what: str
    began: float
    ended: float
    #: How much of that time it took.
    seconds: float


class Threads:
    """Looks at the threads of a process: which of them ran, and how long its first one, the event
    loop's, was ready and did not run, for another had its core."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tasks = Path(f"/proc/{pid}/task")
        self.spans: list[Span] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        at, before = time.time(), self._look()
        while not self._over.wait(_LOOK):
            now, found = time.time(), self._look()
            for task, (ran, waited) in found.items():
                had, stood = before.get(task, (0.0, 0.0))
                if task == self._pid:
                    self._tell("the loop waited for its core", at, now, waited - stood)
                else:
                    self._tell(f"thread {self._name(task)} ran", at, now, ran - had)
            at, before = now, found

    def _tell(self, what: str, began: float, ended: float, seconds: float) -> None:
        if seconds >= _LONG:
            self.spans.append(Span(what, began, ended, seconds))

    def _look(self) -> dict[int, tuple[float, float]]:
        """Seconds that each thread has run, and has been ready and not run."""
        found = {}
        for task in self._tasks.iterdir():
            with suppress(OSError):  # it has ended
                ran, waited, _ = (task / "schedstat").read_text().split()
                found[int(task.name)] = int(ran) / 1e9, int(waited) / 1e9
        return found

    def _name(self, task: int) -> str:
        with suppress(OSError):
            return (self._tasks / str(task) / "comm").read_text().strip()
        return "that has ended"


def collections(said: str) -> list[Span]:
    """Of what watch.py writes."""
    spans = []
    for line in said.splitlines():
        began, seconds, generation = line.split()
        what, took = f"garbage collection {generation}", float(seconds)
        spans.append(Span(what, float(began), float(began) + took, took))
    return spans


def rotations(archive: Path) -> list[Span]:
    """Of the segments that are finished: from their last line to when they had their name."""
    spans = []
    for path in archive.glob("*.jsonl.zst"):
        began, ended = _last_line(path.name), path.stat().st_ctime
        spans.append(Span("archive rotation", began, ended, max(0.0, ended - began)))
    return spans


def _last_line(name: str) -> float:
    stamp = name.split("-")[1].removesuffix("Z")
    return datetime.strptime(f"{stamp}000", "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC).timestamp()


def told(lines: Iterable[bytes]) -> list[Span]:
    """What a router's log in JSON tells besides events."""
    spans = []
    for line in lines:
        if b'"happening":"event"' not in line:
            said = json.loads(line)
            at = datetime.fromisoformat(said["time"]).timestamp()
            spans.append(Span(f"log: {said['happening']}", at, at, 0.0))
    return spans


def met(event: Answered, spans: Sequence[Span]) -> list[str]:
    """What went on while the event was in hand, or just before, in words: each kind once, what took
    longest first."""
    kinds: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda each: each.began):
        if span.began <= event.ended and span.ended >= event.due - _BEFORE:
            kinds.setdefault(span.what, []).append(span)
    longest = sorted(kinds.items(), key=lambda kind: -sum(each.seconds for each in kind[1]))
    return [_in_words(what, each, event.due) for what, each in longest]


def _in_words(what: str, spans: Sequence[Span], due: float) -> str:
    ago = (due - spans[0].began) * 1000
    since = f"from {ago:.0f} ms before" if ago >= 0 else f"from {-ago:.0f} ms after"
    took = sum(span.seconds for span in spans) * 1000
    times = f", {len(spans)} times" if len(spans) > 1 else ""
    return f"{what} {since}{times}" + (f", {took:.1f} ms" if took else "")
