"""How long the slowest events take, and what they waited for: python -m bench.tails [CASE…]

Events arrive at half of the rate that each router, and nginx + Lua, has at its best; a latency
begins when its event was due. The router is measured quiet, and then while something else goes on.
Each run has a router of its own, with a store, an archive and a log in a file; the runs of a round
are interleaved. A case's figures are those of its round with the lowest p99: what others do on the
machine only adds to it. Below them is, for the ten slowest events of all rounds, what went on in
the router and beside it just then.

Where it may, all of it has precedence over whoever else is on the machine, by its niceness: so that
the threads of the router that are nicer than its loop still are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.arrivals import WORST, Answered, Latency, arrivals
from bench.compare import COMPILED, CONNECTIONS, CORE, PURE, ROUTES, TARGETS, WRK_CORE, machine
from bench.compiled import ROOT, compiled_tree
from bench.goings_on import OLD_EVERY_SECOND, GoingOn, Prunes, Reloads, Scrapes
from bench.processes import (
    NGINX,
    Scene,
    Started,
    free_port,
    precedence,
    start,
    start_targets,
)
from bench.spans import Span, Threads, met
from bench.watched import Watched
from bench.wrk import wrk

#: The part of the best rate at which events arrive.
PART = 0.5

#: An archive that turns to its next segment some times a second; as shipped it has 16 MiB to fill.
SMALL_ARCHIVE = ("--archive-max-bytes", "4MiB")


def _reloads(router: Watched) -> GoingOn:
    return Reloads(router.routes, router.reloads)


def _scrapes(router: Watched) -> GoingOn:
    return Scrapes(router.metrics_url)


def _prunes(router: Watched) -> GoingOn:
    return Prunes(router.store)


@dataclass(frozen=True)
class Case:
    #: What goes on beside the events, made for a router.
    beside: Sequence[Callable[[Watched], GoingOn]] = ()
    options: Sequence[str] = ()


CASES = {
    "quiet": Case(),
    "reloads": Case([_reloads]),
    "scrapes": Case([_scrapes]),
    "rotations": Case(options=SMALL_ARCHIVE),
    "prunes": Case([_prunes]),
    "everything": Case([_reloads, _scrapes, _prunes], SMALL_ARCHIVE),
}


class Run(NamedTuple):
    latency: Latency
    #: The part of the time that its loop was ready and another had the core.
    waited: float
    spans: list[Span]


Runs = dict[tuple[str, str], list[Run]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tails", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run")
    parser.add_argument("--rate", type=float, help="events a second; else half of the best rate")
    parser.add_argument("--no-compiled", action="store_true", help="leave the compiled router out")
    args = parser.parse_args()
    cases = {name: CASES[name] for name in args.cases or CASES}
    rounds, seconds = (1, 3.0) if args.quick else (args.rounds, args.seconds)
    trees = {PURE: ROOT} if args.no_compiled else {COMPILED: compiled_tree(), PURE: ROOT}
    os.sched_setaffinity(0, {WRK_CORE})
    print(machine(), file=sys.stderr)
    with precedence(), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scene = Scene(Path(folder), [free_port() for _ in range(TARGETS)], ROUTES)
        scene.write()
        stack.callback(start_targets(scene, WRK_CORE).stop)
        nginx = start(NGINX, scene, CORE)
        stack.callback(nginx.stop)
        bench = Bench(scene, nginx, trees)
        rates = {name: args.rate or PART * bench.best_rate(name) for name in (nginx.name, *trees)}
        runs = measure(bench, cases, rates, rounds, seconds)
    print(table(runs, rates), "", slowest(runs), sep="\n")
    return 1 if any(run.latency.failures for each in runs.values() for run in each) else 0


class Bench:
    """The targets, nginx, and routers as they are needed."""

    def __init__(self, scene: Scene, nginx: Started, trees: dict[str, Path]) -> None:
        self._scene = scene
        self._nginx = nginx
        self._trees = trees
        self._number = 0

    def best_rate(self, name: str) -> float:
        """Events a second, with callers that wait for their replies."""
        if name == self._nginx.name:
            return _best_rate(self._nginx)
        router = self._router(name)
        try:
            return _best_rate(router.started)
        finally:
            router.started.stop()

    def nginx(self, rate: float, seconds: float) -> Run:
        threads = Threads(self._nginx.worker)
        try:
            latency, waited = _driven(self._nginx, rate, seconds)
        finally:
            threads.stop()
        self._nginx.rest()
        return Run(latency, waited, threads.spans)

    def router(self, name: str, case: Case, rate: float, seconds: float) -> Run:
        """One run of a new router, with all that the case has beside it."""
        rows = int(seconds * OLD_EVERY_SECOND) if _prunes in case.beside else 0
        router = self._router(name, case.options, rows)
        with ExitStack() as stack:
            stack.callback(router.started.stop)
            wrk(router.started.url, CONNECTIONS, 1, WRK_CORE)
            router.started.rest()
            beside = [each(router) for each in case.beside]
            threads = Threads(router.started.worker)
            stack.callback(threads.stop)
            for each in beside:
                each.start()
                stack.callback(each.stop)
            latency, waited = _driven(router.started, rate, seconds)
        spans = [*threads.spans, *(span for each in beside for span in each.spans)]
        return Run(latency, waited, spans + router.spans())

    def _router(self, name: str, options: Sequence[str] = (), rows: int = 0) -> Watched:
        self._number += 1
        scene = replace(self._scene, folder=self._scene.folder / str(self._number))
        return Watched(scene, self._trees[name], options, rows)


def _driven(started: Started, rate: float, seconds: float) -> tuple[Latency, float]:
    """The latencies, and the part of the time that its loop waited for the core."""
    began, before = time.monotonic(), started.waited_seconds
    latency = arrivals(started.url, rate, seconds, WRK_CORE)
    return latency, (started.waited_seconds - before) / (time.monotonic() - began)


def _best_rate(started: Started) -> float:
    wrk(started.url, CONNECTIONS, 1, WRK_CORE)
    rate = wrk(started.url, CONNECTIONS, 3, WRK_CORE).per_second
    started.rest()
    return rate


def measure(
    bench: Bench, cases: dict[str, Case], rates: dict[str, float], rounds: int, seconds: float
) -> Runs:
    runs: Runs = {}
    nginx, *routers = rates
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        runs.setdefault((nginx, "quiet"), []).append(bench.nginx(rates[nginx], seconds))
        for case in cases:
            for name in routers:
                run = bench.router(name, cases[case], rates[name], seconds)
                runs.setdefault((name, case), []).append(run)
    return runs


def table(runs: Runs, rates: dict[str, float]) -> str:
    """Markdown: the latencies of each case, and how its p99 stands beside that of nginx."""
    titles = (
        *("", "", "events/s", "p50 ms", "p99", "of nginx's", "p99.9", "most", "failures"),
        *("generator late, p99", "waits for its core"),
    )
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    first = next(iter(runs))
    theirs = _best(runs[first]).latency.p99
    for (name, case), each in runs.items():
        latency, waited, _ = _best(each)
        beside = "" if (name, case) == first else f"{latency.p99 / theirs:.1f} times"
        failures = sum(run.latency.failures for run in each)
        lines.append(
            f"| {name} | {case} | {rates[name]:,.0f} | {latency.median:.2f} | {latency.p99:.2f}"
            f" | {beside} | {latency.p999:.1f} | {latency.most:.1f} | {failures}"
            f" | {latency.late_p99:.2f} | {waited:.1%} |"
        )
    cpu = max(run.latency.cpu for each in runs.values() for run in each)
    return "\n".join([*lines, "", f"The generator took at most {cpu:.0%} of its core."])


def slowest(runs: Runs) -> str:
    """For each case the ten slowest events of all rounds, and what went on in each one's time."""
    lines = []
    for (name, case), each in runs.items():
        found = [(event, run.spans) for run in each for event in run.latency.worst]
        found.sort(key=lambda one: one[0].latency, reverse=True)
        lines.append(f"The slowest of {name}, {case}:")
        lines += [_slow(event, spans) for event, spans in found[:WORST]]
    return "\n".join(lines)


def _slow(event: Answered, spans: Sequence[Span]) -> str:
    at = datetime.fromtimestamp(event.due, UTC)
    late = f", noticed {event.late:.1f} ms late" if event.late > event.latency / 10 else ""
    went_on = "; ".join(met(event, spans)) or "nothing that is known"
    return f"  {event.latency:.1f} ms from {at:%H:%M:%S.%f}{late}: {went_on}"


def _best(runs: Sequence[Run]) -> Run:
    return min(runs, key=lambda run: run.latency.p99)


if __name__ == "__main__":
    raise SystemExit(main())
