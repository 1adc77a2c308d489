"""The router beside alternatives: python -m bench.compare [--quick]

All peers get the same events over the same fifty routes to the same three targets, with keep-alive
on both sides; features that a peer lacks are listed. Peers run on one core; load and targets on the
other. Rounds are interleaved, so that a busy moment affects all of them. Figures are medians over
the rounds, with the minimum and maximum. CPU is user and system time of the process tree per
answered event.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.arrivals import arrivals
from bench.compiled import compiled_tree
from bench.processes import (
    HERE,
    NGINX,
    NODE,
    OBVIOUS,
    Peer,
    Scene,
    Started,
    free_port,
    precedence,
    router,
    start,
    start_targets,
)
from bench.tables import lacks_table, table, waits_table
from bench.wrk import Load, wrk

ROUTES, TARGETS, CONNECTIONS = 50, 3, 32

#: The names of the two routers.
COMPILED, PURE = "router, compiled", "router"

#: Rates of arrivals, as fractions of the best rate.
PARTS = (0.25, 0.5, 0.75, 0.9)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it all work?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--no-compiled", action="store_true", help="leave the compiled router out")
    args = parser.parse_args()
    rounds, seconds = (2, 2) if args.quick else (args.rounds, args.seconds)
    print(machine(), file=sys.stderr)
    everybody = peers(with_compiled=not args.no_compiled)
    with running(everybody, ROUTES, TARGETS) as started:
        at_rest = {each.name: each.memory_at_rest() for each in started}
        runs = closed(started, everybody, rounds, seconds)
        print(
            table(runs, at_rest, (COMPILED, PURE)), "", lacks_table(everybody), sep="\n", flush=True
        )
        waits = {} if args.quick else opened(started, runs, seconds)
    if waits:
        print("", waits_table(waits), sep="\n")
    # Failures of the others are shown, but are not ours.
    failed = sum(run["failures"] for name in (COMPILED, PURE) for run in runs.get(name, ()))
    return 1 if failed else 0


def peers(*, with_compiled: bool) -> list[Peer]:
    """Return all peers. Node.js is missing if its packages cannot be fetched."""
    compiled = [router(COMPILED, folder=compiled_tree())] if with_compiled else []
    node = [NODE] if (HERE / "node" / "node_modules").is_dir() else []
    return [*compiled, router(PURE), NGINX, *node, OBVIOUS]


Runs = dict[str, list[dict[str, Any]]]


def closed(
    started: Sequence[Started], everybody: Sequence[Peer], rounds: int, seconds: int
) -> Runs:
    """Run a closed loop, and return the figures of every round by peer."""
    runs: Runs = {each.name: [] for each in started}
    callers = {}
    for each, peer in zip(started, everybody, strict=True):
        warm(each)
        callers[each.name] = best_callers(each, peer.callers)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        # A different order in each round.
        for each in [*started[number % len(started) :], *started[: number % len(started)]]:
            runs[each.name].append(measured(each, callers[each.name], seconds))
    return runs


def best_callers(each: Started, numbers: Sequence[int]) -> int:
    """Return the number of callers with the highest rate; the default without a choice."""
    done = {number: measured(each, number, 1)["per_second"] for number in numbers}
    return max(done, key=done.__getitem__, default=CONNECTIONS)


def opened(started: Sequence[Started], runs: Runs, seconds: int) -> Runs:
    """Run an open loop at fractions of each peer's best rate, and return the latencies by peer."""
    waits: Runs = {each.name: [] for each in started}
    for part in PARTS:
        print(f"arrivals at {part:.0%} of the best rate", file=sys.stderr)
        for each in started:
            rate = part * max(run["per_second"] for run in runs[each.name])
            latency = arrivals(each.url, rate, seconds, WRK_CORE)
            each.rest()
            waits[each.name].append({"part": part, "per_second": rate, **asdict(latency)})
    return waits


#: The peers have one core for themselves.
CORE, WRK_CORE = 0, min(1, (os.cpu_count() or 1) - 1)


@contextlib.contextmanager
def running(
    peers: Sequence[Peer], routes: int, targets: int, cores: Sequence[int] = (CORE,)
) -> Iterator[list[Started]]:
    """Run all peers and their targets on these cores until the block ends."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        scene = Scene(Path(folder), [free_port() for _ in range(targets)], routes)
        scene.write()
        stack.enter_context(precedence())
        stack.callback(start_targets(scene, WRK_CORE).stop)
        started = []
        for peer in peers:
            started.append(start(peer, scene, *cores))
            stack.callback(started[-1].stop)
        yield started


def warm(each: Started) -> None:
    """Warm up a peer: connections, compilation. The figures are discarded."""
    wrk(each.url, CONNECTIONS, 1, WRK_CORE)
    each.rest()


def measured(each: Started, connections: int, seconds: int, changes: int = 2) -> dict[str, Any]:
    """Run once, and return the cost and the rates."""
    before = each.cpu_seconds
    load: Load = wrk(each.url, connections, seconds, WRK_CORE, changes)
    spent = each.cpu_seconds - before
    each.rest()
    good = load.events - load.failures
    return {
        "callers": connections,
        "cpu_us": spent / max(1, good) * 1e6,
        "per_second": load.per_second * good / max(1, load.events),
        "median_ms": load.median,
        "p99_ms": load.p99,
        "failures": load.failures,
        "memory": each.memory,
    }


def arriving(each: Started, rate: float, seconds: float) -> dict[str, Any]:
    """Run once with events at a rate."""
    before = each.cpu_seconds
    latency = arrivals(each.url, rate, seconds, WRK_CORE, warm=0.0)
    spent = each.cpu_seconds - before
    each.rest()
    return {
        "cpu_us": spent / max(1, latency.events) * 1e6,
        "failures": latency.failures,
        "memory": each.memory,
    }


def machine() -> str:
    """Return a description of the machine and the versions."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = ", ".join(
        _said(*command) for command in (("nginx", "-v"), ("node", "--version"), ("wrk", "-v"))
    )
    return (
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f};"
        f" Linux {platform.release()}; Python {platform.python_version()}; {versions}"
    )


def _said(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    first, *_ = (ran.stdout + ran.stderr).splitlines()
    return f"{command[0]} {first.removeprefix('nginx version: ').removeprefix('wrk ')}"


if __name__ == "__main__":
    raise SystemExit(main())
