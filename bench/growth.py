"""How the cost of an event grows: python -m bench.growth [--quick] [CURVE…]

CPU µs per event of the whole process tree, at 32 connections unless the curve says otherwise; one
SVG for each curve in docs/bench/, and the figures on stdout. All that a curve compares, its points
and the router and nginx + Lua at each, run side by side, and their runs are interleaved: a busy
moment hits all alike. A figure is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.compare import (
    CONNECTIONS,
    CORE,
    ROUTES,
    TARGETS,
    WRK_CORE,
    machine,
    measured,
    running,
    warm,
)
from bench.curve import svg
from bench.processes import NGINX, Peer, router

OUT = Path(__file__).parent.parent / "docs" / "bench"


@dataclass(frozen=True, eq=False)
class Point:
    """What differs from the usual run."""

    at: float
    routes: int = ROUTES
    targets: int = TARGETS
    connections: int = CONNECTIONS
    changes: int = 2
    peers: Sequence[Peer] = field(default_factory=lambda: (router("router"), NGINX))
    #: Which cores they may use, all together.
    cores: Sequence[int] = (CORE,)


@dataclass(frozen=True)
class Curve:
    title: str
    across: str
    points: Sequence[Point]
    #: Divides the cost, by the point: attempts instead of events, say.
    by: Callable[[Point], float] = lambda point: 1.0
    up: str = "CPU µs per event"


CURVES: Mapping[str, Curve] = {
    "routes": Curve(
        "Routes in the table",
        "routes",
        [Point(n, routes=n) for n in (10, 1_000)]
        # nginx looks at each in turn, and is left out where that takes seconds.
        + [Point(n, routes=n, peers=(router("router"),)) for n in (10_000, 100_000)],
    ),
    "targets": Curve(
        "Targets of an event",
        "targets",
        [Point(n, targets=n) for n in (1, 3, 5, 10)],
        by=lambda point: point.targets,
        up="CPU µs per attempt",
    ),
    "body": Curve(
        "Size of an event",
        "changes",
        [Point(n, changes=n) for n in (2, 100, 1_000, 10_000)],
    ),
    "unsettled": Curve(
        "Unsettled events in the store",
        "events",
        [Point(n, peers=(router("router", unsettled=n),)) for n in (0, 10_000, 100_000, 1_000_000)],
    ),
    "connections": Curve(
        "Callers at a time",
        "connections",
        [Point(n, connections=n) for n in (1, 8, 32, 128)],
    ),
    "workers": Curve(
        "Workers",
        "workers",
        # Two are for two cores: at one they only take it from each other. On a machine with two
        # wrk and the targets share the second with them, and with the one as well. Each worker has
        # as many callers as the one.
        [
            Point(
                n,
                connections=n * CONNECTIONS,
                peers=(router("router", "--workers", str(n)),),
                cores=(CORE, WRK_CORE),
            )
            for n in (1, 2)
        ],
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("curves", nargs="*", choices=[*CURVES, []], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="one short round of each point")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    args = parser.parse_args()
    rounds, seconds = (1, 1) if args.quick else (args.rounds, args.seconds)
    print(machine(), file=sys.stderr)
    failures = 0
    for name in args.curves or CURVES:
        curve = CURVES[name]
        print(f"{curve.title}, {curve.up}")
        lines, failed = measure(curve, rounds, seconds)
        failures += failed
        for peer, points in lines.items():
            print(f"  {peer:<12}", "  ".join(f"{at:,g}: {y:.0f}" for at, y in points))
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / f"{name}.svg").write_text(svg(curve.title, curve.across, curve.up, lines))
    return 1 if failures else 0


Lines = dict[str, list[tuple[float, float]]]


def measure(curve: Curve, rounds: int, seconds: int) -> tuple[Lines, int]:
    """The cost at each of a curve's points, by peer; and how many events failed."""
    runs: dict[tuple[str, Point], list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        started = [
            (point, each)
            for point in curve.points
            for each in stack.enter_context(
                running(point.peers, point.routes, point.targets, point.cores)
            )
        ]
        for _, each in started:
            warm(each)
        for _ in range(rounds):
            for point, each in started:
                run = measured(each, point.connections, seconds, point.changes)
                runs.setdefault((each.name, point), []).append(run)
    lines: Lines = {}
    for (peer, point), several in runs.items():
        cost = statistics.median(run["cpu_us"] for run in several) / curve.by(point)
        lines.setdefault(peer, []).append((point.at, cost))
    return lines, sum(run["failures"] for several in runs.values() for run in several)


if __name__ == "__main__":
    raise SystemExit(main())
