"""The growth of an event's cost: python -m bench.growth [--quick] [CURVE…]

Prints CPU µs per event of the process tree, by default at 32 connections, and the memory
afterwards. All points of a curve, with both routers and nginx + Lua at each, run side by side, and
their runs are interleaved. Figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare import (
    COMPILED,
    CONNECTIONS,
    CORE,
    PURE,
    ROUTES,
    TARGETS,
    WRK_CORE,
    arriving,
    machine,
    measured,
)
from bench.compiled import compiled_tree
from bench.processes import (
    NGINX,
    Peer,
    Scene,
    Started,
    free_port,
    precedence,
    router,
    start,
    start_targets,
)


@dataclass(frozen=True, eq=False)
class Point:
    """The differences to a usual run."""

    at: float
    routes: int = ROUTES
    targets: int = TARGETS
    connections: int = CONNECTIONS
    changes: int = 2
    #: Arrivals per second; 0 for a closed loop.
    rate: int = 0
    unsettled: int = 0
    #: Whether nginx is measured too.
    nginx: bool = True

    def scene(self, folder: Path) -> Scene:
        return Scene(folder, [free_port() for _ in range(self.targets)], self.routes)

    def peers(self, compiled: Path | None) -> list[Peer]:
        routers = {PURE: None} if compiled is None else {COMPILED: compiled, PURE: None}
        peers = [
            router(name, unsettled=self.unsettled, folder=folder)
            for name, folder in routers.items()
        ]
        return [*peers, NGINX] if self.nginx else peers

    def run(self, each: Started, seconds: int) -> dict[str, Any]:
        """Run once after a short run, which renews connections closed meanwhile."""
        if self.rate:
            return arriving(each, self.rate, seconds)
        for length in (1, seconds):
            run = measured(each, self.connections, length, self.changes)
        return run


@dataclass(frozen=True)
class Figures:
    """CPU per event and memory of one peer at one point."""

    at: float
    micros: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.at:,.0f}: {self.micros:,.0f} ({self.megabytes:.0f})"


@dataclass(frozen=True)
class Curve:
    title: str
    points: Sequence[Point]


#: Bytes of an event with two ids, and of each further id.
_LEAST, _ID = 174, 39


def _ids(size: int) -> int:
    """Return the number of ids of an event of at most this size."""
    return 2 + (size - _LEAST) // _ID


CURVES: Mapping[str, Curve] = {
    "routes": Curve(
        "Routes in the table",
        # nginx tries every route, and is left out if that takes seconds.
        [Point(n, routes=n, nginx=n <= 1_000) for n in (10, 1_000, 10_000, 100_000)],
    ),
    "targets": Curve(
        "Targets of an event",
        [Point(n, targets=n) for n in (1, 3, 10, 30, 100)],
    ),
    "body": Curve(
        "Size of an event",
        [Point(n, changes=_ids(n)) for n in (300, 3_000, 30_000, 300_000, 1 << 20)],
    ),
    "unsettled": Curve(
        "Unsettled events in the store",
        [Point(n, unsettled=n, nginx=False) for n in (0, 10_000, 1_000_000)],
    ),
    "connections": Curve(
        "Callers at a time",
        [Point(n, connections=n) for n in (1, 8, 32, 128)],
    ),
    "rate": Curve(
        "Events that arrive in a second",
        [Point(n, rate=n) for n in (300, 1_000, 3_000, 5_000)],
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("curves", nargs="*", choices=[*CURVES, []], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="one short round of each point")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    parser.add_argument("--no-compiled", action="store_true", help="leave the compiled router out")
    args = parser.parse_args()
    rounds, seconds = (1, 1) if args.quick else (args.rounds, args.seconds)
    print(machine(), file=sys.stderr)
    compiled = None if args.no_compiled else compiled_tree()
    failures = 0
    print("| | | CPU µs per event (MB) |", "| --- | --- | --- |", sep="\n")
    for name in args.curves or CURVES:
        curve = CURVES[name]
        lines, failed = measure(curve, compiled, rounds, seconds)
        failures += failed
        titles = itertools.chain([curve.title], itertools.repeat(""))
        for title, (peer, figures) in zip(titles, lines.items(), strict=False):
            print(f"| {title} | {peer} | {', '.join(map(str, figures))} |", flush=True)
    return 1 if failures else 0


Lines = dict[str, list[Figures]]


def measure(curve: Curve, compiled: Path | None, rounds: int, seconds: int) -> tuple[Lines, int]:
    """Return the figures at each point by peer, and the number of failed events."""
    with precedence(), ExitStack() as stack:
        started = [
            (point, each) for point in curve.points for each in _started(point, compiled, stack)
        ]
        in_rounds = [[point.run(each, seconds) for point, each in started] for _ in range(rounds)]
    lines: Lines = {}
    for (point, each), runs in zip(started, zip(*in_rounds, strict=True), strict=True):
        micros = statistics.median(run["cpu_us"] for run in runs)
        megabytes = statistics.median(run["memory"] for run in runs) / 1e6
        lines.setdefault(each.name, []).append(Figures(point.at, micros, megabytes))
    return lines, sum(run["failures"] for runs in in_rounds for run in runs)


def _started(point: Point, compiled: Path | None, stack: ExitStack) -> list[Started]:
    """Yield the peers at a point, with their targets."""
    scene = point.scene(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    scene.write()
    stack.callback(start_targets(scene, WRK_CORE).stop)
    started = []
    for peer in point.peers(compiled):
        each = start(peer, scene, CORE)
        stack.callback(each.stop)
        started.append(each)
    return started


if __name__ == "__main__":
    raise SystemExit(main())
