"""Many requests, a bounded number at a time: what came back, how fast, and how far it has got."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from router.cli.columns import counted
from router.cli.printing import NAME, milliseconds, note
from router.cli.trying.caller import Response
from router.model import SUCCESS

#: How often progress is shown, in seconds: redrawn on a terminal, a line of its own elsewhere.
_REDRAW = 0.2
_LINE = 2.0

_PERCENTILES = (50, 90, 99)

#: The most words that are counted one by one; what replies say may be anything.
_MAX_WORDS = 20


class Figures:
    """What has come back so far, of `count` requests."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._words: Counter[str] = Counter()
        #: Each reply's time, in seconds, as it came.
        self._times: array[float] = array("d")
        self._started = self._last = 0.0

    def start(self) -> None:
        self._started = self._last = time.perf_counter()

    @property
    def done(self) -> int:
        return len(self._times)

    @property
    def all_good(self) -> bool:
        return self._words[SUCCESS] == self.count

    def add(self, reply: Response) -> None:
        self._words[reply.word] += 1
        self._times.append(reply.seconds)
        self._last = time.perf_counter()

    def progress(self) -> str:
        return f"{self.done} of {self.count}, {self._words[SUCCESS]} with code {SUCCESS}"

    def summary(self) -> dict[str, Any]:
        """All figures; times in milliseconds, None where nothing came back."""
        seconds = self._last - self._started
        return {
            "requests": self.count,
            "done": self.done,
            "seconds": round(seconds, 3),
            "per_second": round(self.done / seconds, 1) if seconds else None,
            "codes": self._codes(),
            "ms": self._latency(),
        }

    def _codes(self) -> dict[str, int]:
        """How many replies had each code, or no code for that reason; the most frequent first."""
        codes = dict(self._words.most_common(_MAX_WORDS))
        others = self.done - sum(codes.values())
        return {**codes, "others": others} if others else codes

    def _latency(self) -> dict[str, float | None]:
        ordered = sorted(self._times)
        shares = {**{f"p{share}": share for share in _PERCENTILES}, "max": 100}
        return {
            name: milliseconds(percentile(ordered, share)) if ordered else None
            for name, share in shares.items()
        }


def percentile(ordered: Sequence[float], share: int) -> float:
    """The nearest rank: a time that one request really took."""
    return ordered[math.ceil(len(ordered) * share / 100) - 1]


def describe(summary: dict[str, Any]) -> Iterator[str]:
    """The summary's lines for people."""
    requests = counted(summary["requests"], "request")
    if not summary["done"]:
        yield f"0 of {requests}"
        return
    yield (
        f"{summary['done']:,} of {requests} in {summary['seconds']} s, "
        f"{summary['per_second']} a second"
    )
    yield "codes: " + ", ".join(f"{word} {times}" for word, times in summary["codes"].items())
    yield "latency: " + ", ".join(f"{name} {ms} ms" for name, ms in summary["ms"].items())


async def load(call: Callable[[], Awaitable[Response]], concurrency: int, tally: Figures) -> None:
    """Make the tally's requests, `concurrency` of them at a time. Cancelling it loses no figure."""
    numbers = iter(range(tally.count))
    tally.start()

    async def work() -> None:
        for _ in numbers:
            tally.add(await call())

    progress = asyncio.create_task(_show(tally))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, tally.count)):
                group.create_task(work())
    finally:
        progress.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await progress


async def _show(tally: Figures) -> None:
    if not sys.stderr.isatty():
        while True:
            await asyncio.sleep(_LINE)
            note(tally.progress())
    try:
        while True:
            await asyncio.sleep(_REDRAW)
            _redraw(f"{NAME}: {tally.progress()}")
    finally:
        _redraw("")


def _redraw(text: str) -> None:
    """Put `text` in the place of the terminal's current line."""
    with contextlib.suppress(OSError):
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
