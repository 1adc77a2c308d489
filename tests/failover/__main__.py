"""python -m tests.failover: strike the primary in six ways under load, and judge the run."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time

from router.contract.schedule import Schedule
from tests.chaos.__main__ import complain
from tests.chaos.history import History, Request
from tests.chaos.plan import Manner, Plan, Rates, Times
from tests.chaos.run import play
from tests.chaos.store import Weather
from tests.chaos.verdict import Verdict, judge
from tests.failover.cluster import Cluster, Fault, cluster, run

#: Set inside of the namespaces.
_INSIDE = "FAILOVER_INSIDE"

#: The most seconds of load.
LONGEST = 900.0

#: The pauses before each fault, and between the first write after it and its end, in seconds.
BEFORE, AFTER = 1.0, 1.0

#: EBaaS retries for longer than a failover takes, so that no event is given up.
TIMES = Times(Schedule((0.5, 1.0, 2.5), 12), Schedule((0.5, 1.0, 2.5), 12))


@dataclass(frozen=True)
class FailoverPlan(Plan):
    """Targets that fail at times, callers that leave at times, and one fault after the other."""

    faults: tuple[Fault, ...] = tuple(Fault)

    @property
    def lasts(self) -> float:
        return 0.0

    @cached_property
    def times(self) -> Times:
        return TIMES

    @cached_property
    def rates(self) -> Rates:
        return Rates(0.08, 0.03, 0.0, 0.0, 0.0, 0, lies=0.02, leaves=0.05, proxied=0.03, twins=0.1)

    @cached_property
    def storms(self) -> list[tuple[float, StrEnum, int, float]]:
        return [(0.0, fault, 0, AFTER) for fault in self.faults]

    @cached_property
    def upgrades(self) -> list[float]:
        return []


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault, with the time of its begin and of the database's first write after it."""

    fault: Fault
    began: float
    written: float


@dataclass(frozen=True)
class FailoverWeather(Weather):
    """A cluster as both routers reach it."""

    cluster: Cluster | None = None
    strikes: list[Strike] = field(default_factory=list)

    async def strike(self, storm: StrEnum, node: int, seconds: float) -> None:
        assert self.cluster is not None
        await asyncio.sleep(BEFORE)
        fault, began = Fault(storm), time()
        written = await self.cluster.strike(fault, seconds)
        self.strikes.append(Strike(fault, began, began + written))
        print(f"{fault}: the cluster was whole after {time() - began:.1f} s", flush=True)


def main() -> int:
    """Return 0 if every promise has held."""
    args = _arguments()
    if _INSIDE not in os.environ:
        return _in_namespaces()
    for command in (
        "mkdir -p /run/netns",
        "mount -t tmpfs netns /run/netns",
        # That of a container is small, and would keep the files of a run that is killed.
        "mount -t tmpfs memory /dev/shm",
        "ip link set lo up",
    ):
        run(*command.split())
    faults = tuple(Fault(fault) for fault in args.faults or Fault)
    plan = FailoverPlan(args.seed, LONGEST, 2, True, args.pace, faults=faults)
    with cluster() as machines, TemporaryDirectory() as folder:
        verdict, strikes = asyncio.run(_judged(plan, machines, Path(folder)))
    print(*_table(verdict.played.history, strikes), sep="\n")
    complain(verdict)
    print("a promise was broken" if verdict.broken else "every promise was kept")
    return 1 if verdict.broken else 0


def _in_namespaces() -> int:
    """Run this again in namespaces whose end takes every process and network with it."""
    spaces = ["--net", "--mount", "--pid", "--mount-proc"]
    # The first process of the namespaces ends with unshare, and that with this process.
    unshare = ["setpriv", "--pdeathsig=KILL", "unshare", "--fork", "--kill-child", *spaces]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        print("skipped: this machine allows no namespaces; it takes root on Linux")
        return 0
    # A shell as process 1 waits for the servers that Patroni leaves behind.
    shell = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", "tests.failover"]
    inside = {**os.environ, _INSIDE: "1"}
    return subprocess.run([*unshare, *shell, *sys.argv[1:]], env=inside, check=False).returncode


async def _judged(plan: Plan, machines: Cluster, folder: Path) -> tuple[Verdict, list[Strike]]:
    await machines.start()
    above = FailoverWeather(machines.database, machines.seen(plan.nodes), cluster=machines)
    return judge(await play(plan, folder, above)), above.strikes


def _table(history: History, strikes: list[Strike]) -> Iterator[str]:
    """Return what callers saw from each fault until failures were recorded again."""
    yield f"{'primary':20}  written  recorded    000    500   none  slowest reply"
    ends = [strike.began for strike in strikes[1:]]
    for strike, until in zip(strikes, [*ends, time()], strict=True):
        requests = [r for r in history.requests if strike.began <= r.began < until and r.reached]
        again = max(_recorded_again(history, requests, strike.began, node) for node in (0, 1))
        waited = [r for r in requests if r.began <= again and r.manner is Manner.WAITS]
        codes = Counter(r.code for r in waited)
        slowest = max((r.ended - r.began for r in waited if r.code), default=0.0)
        written, recorded = strike.written - strike.began, again - strike.began
        yield (
            f"{strike.fault:20} {written:6.1f} s {recorded:7.1f} s"
            f" {codes['000']:6} {codes['500']:6} {codes['']:6} {slowest:12.2f} s"
        )


def _recorded_again(history: History, requests: list[Request], began: float, node: int) -> float:
    """Return the time at which the longest gap between two recorded failures at a node ended."""
    ends = sorted(r.ended for r in requests if r.node == node and history.recorded(r))
    return max(pairwise([began, *ends]), key=lambda gap: gap[1] - gap[0], default=(began, began))[1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pace", type=float, default=3.0, help="new events in a second")
    parser.add_argument("faults", nargs="*", help=", ".join(Fault))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
