"""What an event costs with each store: python -m bench.stores [EVENTS ROUNDS]

The routers, three required targets and one optional one are on this machine, and so is the
PostgreSQL server, which this starts itself, with its commits synced. None, a tenth and all of the
events fail at their first request and are sent again at once; both requests count as one event.
Where two nodes share a database each has half of the callers, and what fails at one is sent to the
other.

CPU is that of the routers' processes, and beside it that of all the server's; a request's time is
that of 32 callers who wait for each other's turns. Routers, server, targets and callers share the
cores: events in a second say how the lines stand to each other, and no more.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.numbers import numbers
from bench.processes import precedence
from bench.store import Router, load, loaded, target, write_routes
from tests.support.postgres import Server, running

#: Parts of the events that fail at first, in hundredths.
FAILING = (0, 10, 100)


class Nodes(NamedTuple):
    """The routers that share a store."""

    routers: Sequence[Router]
    #: None where the store needs none.
    server: Server | None = None

    @property
    def ports(self) -> list[int]:
        return [router.port for router in self.routers]

    @property
    def cpu_seconds(self) -> float:
        return sum(router.cpu_seconds for router in self.routers)

    @property
    def server_cpu_seconds(self) -> float:
        """Of every process that the server has now; connections last as long as the bench."""
        pids = () if self.server is None else self.server.processes()
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


class Figures(NamedTuple):
    """Of one round: per event, but for what is a request's; seconds."""

    cpu: float
    server_cpu: float
    #: Of a request.
    median: float
    worst_hundredth: float
    #: How long an event kept all of them, as many as there are at a time.
    each: float


def names(failing: int, run: str, events: int) -> list[str]:
    """A run's own: a target fails what it has not seen yet."""
    return [
        f"{'fails' if n % 100 < failing else 'fine'}-{failing}-{run}-{n}" for n in range(events)
    ]


@asynccontextmanager
async def targets(folder: Path) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        prefixes = ("none", "none", "fails", "none")
        urls = [
            await stack.enter_async_context(target(prefix, heals=prefix == "fails"))
            for prefix in prefixes
        ]
        write_routes(folder, urls)
        yield


@contextmanager
def setups(folder: Path) -> Iterator[dict[str, Nodes]]:
    with ExitStack() as stack:
        server = stack.enter_context(running())
        stack.enter_context(
            server.configured(fsync="on", full_page_writes="on", shared_buffers="128MB")
        )
        one, two = (stack.enter_context(server.database()) for _ in range(2))

        def start(store: str, number: int = 1) -> list[Router]:
            routers = [Router(folder, store, core) for core in range(number)]
            for router in routers:
                stack.callback(router.kill)
            return routers

        yield {
            "none": Nodes(start("none")),
            "SQLite": Nodes(start(str(folder / "store.db"))),
            "PostgreSQL": Nodes(start(one.dsn), server),
            "PostgreSQL, two nodes": Nodes(start(two.dsn, 2), server),
        }


async def measured(nodes: Nodes, failing: int, run: str, events: int) -> Figures:
    cpu, server_cpu, began = nodes.cpu_seconds, nodes.server_cpu_seconds, time.perf_counter()
    seconds = await load(names(failing, run, events), *nodes.ports)
    took = time.perf_counter() - began
    return Figures(
        (nodes.cpu_seconds - cpu) / events,
        (nodes.server_cpu_seconds - server_cpu) / events,
        statistics.median(seconds),
        statistics.quantiles(seconds, n=100)[98],
        took / events,
    )


async def compare(by_name: dict[str, Nodes], events: int, rounds: int) -> None:
    print("| failing | store | CPU µs | server CPU µs | p50 / p99 ms | events/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for failing in FAILING:
        found: dict[str, list[Figures]] = {name: [] for name in by_name}
        # They take turns; the first round warms up.
        for each in range(rounds + 1):
            for name, nodes in by_name.items():
                found[name].append(await measured(nodes, failing, f"{name}-{each}", events))
        for name, figures in found.items():
            print(_row(name, failing, figures[1:], by_name[name]), flush=True)


def _row(name: str, failing: int, rounds: Sequence[Figures], nodes: Nodes) -> str:
    figures = Figures(*map(statistics.median, zip(*rounds, strict=True)))
    server = "-" if nodes.server is None else f"{figures.server_cpu * 1e6:,.0f}"
    return (
        f"| {failing} % | {name} | {figures.cpu * 1e6:,.0f} | {server}"
        f" | {figures.median * 1e3:.1f} / {figures.worst_hundredth * 1e3:.1f}"
        f" | {1 / figures.each:,.0f} |"
    )


async def bench(folder: Path, events: int, rounds: int) -> None:
    async with targets(folder):
        with (
            precedence(),
            setups(folder) as by_name,
            loaded(f"Each store, {rounds} rounds of {events:,} events"),
        ):
            await compare(by_name, events, rounds)


def main(events: int, rounds: int) -> None:
    with TemporaryDirectory(dir=".") as name:
        asyncio.run(bench(Path(name).absolute(), events, rounds))


if __name__ == "__main__":
    main(*numbers("stores", __doc__, events=3_000, rounds=5))
