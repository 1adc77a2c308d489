"""Samples of a router's resources, and whether they grow."""

from __future__ import annotations

import itertools
import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.soak.callers import get

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """The resources at one moment of rest. `tasks` is the router's own figure; None if it has
    none."""

    #: Seconds and CPU seconds since the start.
    at: float
    cpu: float
    #: In bytes.
    memory: int
    files: int
    threads: int
    tasks: int | None
    #: Bytes of the store's files.
    store: int


class Meter:
    """Takes samples of one process and its store."""

    def __init__(self, pid: int, store: Path, ops_port: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self._store = store
        self._ops_port = ops_port

    async def sample(self, at: float) -> Sample:
        stat = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return Sample(
            at=at,
            cpu=(int(stat[11]) + int(stat[12])) / _TICKS,
            memory=int((self._proc / "statm").read_text().split()[1]) * _PAGE,
            threads=int(stat[17]),
            files=len(list((self._proc / "fd").iterdir())),
            tasks=await self._tasks(),
            store=sum(each.stat().st_size for each in self._store.parent.glob("store.db*")),
        )

    async def _tasks(self) -> int | None:
        """Return the number of asyncio tasks, from `/status`."""
        status, body = await get(self._ops_port, "/status")
        if status != "200":
            return None
        tasks: int = json.loads(body)["process"]["tasks"]
        return tasks


@dataclass(frozen=True)
class Bound:
    """The growth that fails a soak. Over the last two thirds of the samples, the slope by Theil and
    Sen must not lead further than `share` of the median or `some`, whichever is more, and the
    maximum must not exceed 1.3 medians and `peak`."""

    share: float
    some: float
    peak: float


#: Files include the queue's connections during a rest. The store keeps settled events for an hour,
#: so its size is judged by its events: see `Run`.
BOUNDS = {
    "memory": Bound(0.03, 1.5e6, 0),
    "files": Bound(0.05, 6, 16),
    "threads": Bound(0.05, 2, 4),
    "tasks": Bound(0.05, 4, 16),
}


@dataclass(frozen=True)
class Growth:
    """The trend of one resource over the last two thirds."""

    name: str
    median: float
    most: float
    #: The rise of the slope from the first to the last sample.
    growth: float
    grows: bool


def growths(samples: Sequence[Sample]) -> list[Growth]:
    late = samples[len(samples) // 3 :]
    rows = [asdict(sample) for sample in late]
    found = []
    for name, bound in BOUNDS.items():
        points = [(row["at"], row[name]) for row in rows if row[name] is not None]
        if len(points) > 1:
            found.append(_growth(name, points, bound))
    return found


def _growth(name: str, points: Sequence[tuple[float, float]], bound: Bound) -> Growth:
    values = [value for _, value in points]
    median = statistics.median(values)
    slopes = ((b - a) / (t - s) for (s, a), (t, b) in itertools.combinations(points, 2))
    growth = statistics.median(slopes) * (points[-1][0] - points[0][0])
    too_far = growth > max(bound.share * median, bound.some)
    too_much = max(values) > 1.3 * median + bound.peak
    return Growth(name, median, max(values), growth, too_far or too_much)
