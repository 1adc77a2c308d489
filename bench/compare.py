"""The router beside what one would run in its place: python -m bench.compare [--quick]

Each gets the same events over the same fifty routes to the same three targets, keep-alive on both
sides; what a peer leaves out is told. They run side by side, one core each side: what is measured
on one, the load and the targets on the other. Rounds are interleaved, so that a busy moment hits
all alike; the figures are medians over the rounds, with the lowest and the highest. CPU is user and
system time of the whole process tree, by answered event.
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

#: Of the best rate, for arrivals.
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
    # What the others fail at is shown, and is not this project's matter.
    failed = sum(run["failures"] for name in (COMPILED, PURE) for run in runs.get(name, ()))
    return 1 if failed else 0


def peers(*, with_compiled: bool) -> list[Peer]:
    """All that are compared. Node.js is left out where its packages can't be fetched, which its
    absence from the table shows."""
    compiled = [router(COMPILED, folder=compiled_tree())] if with_compiled else []
    node = [NODE] if (HERE / "node" / "node_modules").is_dir() else []
    return [*compiled, router(PURE), NGINX, *node, OBVIOUS]


Runs = dict[str, list[dict[str, Any]]]


def closed(
    started: Sequence[Started], everybody: Sequence[Peer], rounds: int, seconds: int
) -> Runs:
    """Callers that wait for their replies: the figures of every round, by peer."""
    runs: Runs = {each.name: [] for each in started}
    callers = {}
    for each, peer in zip(started, everybody, strict=True):
        warm(each)
        callers[each.name] = best_callers(each, peer.callers)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        # Each round in another order.
        for each in [*started[number % len(started) :], *started[: number % len(started)]]:
            runs[each.name].append(measured(each, callers[each.name], seconds))
    return runs


def best_callers(each: Started, numbers: Sequence[int]) -> int:
    """With how many callers at a time, of these, it answers most; the usual number of none."""
    done = {number: measured(each, number, 1)["per_second"] for number in numbers}
    return max(done, key=done.__getitem__, default=CONNECTIONS)


def opened(started: Sequence[Started], runs: Runs, seconds: int) -> Runs:
    """Callers that don't: latencies at parts of the rate that each had at its best, by peer."""
    waits: Runs = {each.name: [] for each in started}
    for part in PARTS:
        print(f"arrivals at {part:.0%} of the best rate", file=sys.stderr)
        for each in started:
            rate = part * max(run["per_second"] for run in runs[each.name])
            latency = arrivals(each.url, rate, seconds, WRK_CORE)
            each.rest()
            waits[each.name].append({"part": part, "per_second": rate, **asdict(latency)})
    return waits


#: What is measured has one core for itself.
CORE, WRK_CORE = 0, min(1, (os.cpu_count() or 1) - 1)


@contextlib.contextmanager
def running(
    peers: Sequence[Peer], routes: int, targets: int, cores: Sequence[int] = (CORE,)
) -> Iterator[list[Started]]:
    """All of them, and their targets, until the block ends; each may use those cores."""
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
    """Let it make its connections and compile what it compiles; no figure comes of it."""
    wrk(each.url, CONNECTIONS, 1, WRK_CORE)
    each.rest()


def measured(each: Started, connections: int, seconds: int, changes: int = 2) -> dict[str, Any]:
    """One run: what it cost, and how it went."""
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
    """The same of events that arrive at that rate, answered or not."""
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
    """What the figures were measured on, and with."""
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
