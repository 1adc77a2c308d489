"""What an event costs with each store: python -m bench.stores [EVENTS ROUNDS]

The router, three required targets and one optional one are on this machine, and so is the
PostgreSQL server, which this starts itself, with its commits synced. None, a tenth and all of the
events fail at their first request and are sent again at once; both requests count as one event.

CPU is that of the router's process, and beside it that of all the server's; a request's time is
that of 32 callers who wait for each other's turns. Round trips are statements, polling included.
Then what two nodes on a core each do beside one, as fast as they can: server, targets and callers
share these cores, so that it says more about locks than about speed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.store import Router, load, loaded, target, write_routes
from tests.support.postgres import Database, Server, running

#: Parts of the events that fail at first, in hundredths.
FAILING = (0, 10, 100)

#: How long the server takes to tell its statistics at most, in seconds.
_STATISTICS = 1.5


class Meter(NamedTuple):
    """Where the server stands; the difference of two is what was used between them."""

    cpu_seconds: float
    statements: int

    @classmethod
    async def read(cls, database: Database | None) -> Meter:
        if database is None:
            return cls(0.0, 0)
        await asyncio.sleep(_STATISTICS)
        ((statements,),) = database.rows(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database "
            f"WHERE datname = '{database.name}'"
        )
        return cls(_cpu_seconds(database.server), int(statements))


class Figures(NamedTuple):
    """Of one round, per event; seconds."""

    cpu: float
    server_cpu: float
    #: Of a request.
    median: float
    worst_hundredth: float
    round_trips: float


def _cpu_seconds(server: Server) -> float:
    """Of every process that the server has now; connections last as long as the bench."""
    return sum(
        int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
        for pid in server.processes()
    )


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
def server() -> Iterator[Database]:
    with (
        running() as started,
        started.configured(fsync="on", full_page_writes="on", shared_buffers="128MB"),
        started.database() as database,
    ):
        yield database


async def measured(
    router: Router, database: Database | None, failing: int, run: str, events: int
) -> Figures:
    before, cpu = await Meter.read(database), router.cpu_seconds
    seconds = await load(router.port, names(failing, run, events))
    used = router.cpu_seconds - cpu
    after = await Meter.read(database)
    return Figures(
        used / events,
        (after.cpu_seconds - before.cpu_seconds) / events,
        statistics.median(seconds),
        statistics.quantiles(seconds, n=100)[98],
        (after.statements - before.statements) / events,
    )


async def compare(folder: Path, database: Database, events: int, rounds: int) -> None:
    stores = {"none": "none", "sqlite": str(folder / "store.db"), "postgresql": database.dsn}
    routers = {
        name: await asyncio.to_thread(Router, folder, store) for name, store in stores.items()
    }
    print(
        f"{'store':<12}{'failing':>8}{'CPU µs':>9}{'server µs':>11}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'round trips':>13}"
    )
    try:
        for failing in FAILING:
            found: dict[str, list[Figures]] = {name: [] for name in routers}
            # They take turns; the first round warms up.
            for each in range(rounds + 1):
                for name, router in routers.items():
                    of = database if name == "postgresql" else None
                    round_ = await measured(router, of, failing, f"{name}-{each}", events)
                    found[name].append(round_)
            for name, figures in found.items():
                print(_line(name, failing, figures[1:]), flush=True)
        ((connections,),) = database.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ebaas-router'"
        )
        print(f"connections of the router to the server: {connections}")
    finally:
        for router in routers.values():
            router.kill()


def _line(name: str, failing: int, figures: list[Figures]) -> str:
    cpu, server_cpu, median, worst, trips = map(statistics.median, zip(*figures, strict=True))
    return (
        f"{name:<12}{failing:>7} %{cpu * 1e6:>8.0f}{server_cpu * 1e6:>11.0f}{median * 1e3:>9.2f}"
        f"{worst * 1e3:>9.2f}{trips:>13.3f}"
    )


async def nodes(folder: Path, database: Database, events: int) -> None:
    print(f"{'nodes':<8}{'failing':>8}{'events/s':>10}")
    for number in (1, 2):
        routers = [
            await asyncio.to_thread(Router, folder, database.dsn, core) for core in range(number)
        ]
        try:
            for failing in FAILING:
                await _throughput(routers, failing, f"warm-up-{number}", 500)
                rate = await _throughput(routers, failing, f"nodes-{number}", events)
                print(f"{number:<8}{failing:>7} %{rate:>9.0f}", flush=True)
        finally:
            for router in routers:
                router.kill()


async def _throughput(routers: list[Router], failing: int, run: str, events: int) -> float:
    """Events in a second, all nodes together."""
    began = time.perf_counter()
    await asyncio.gather(
        *(
            load(router.port, names(failing, f"{run}-{n}", events))
            for n, router in enumerate(routers)
        )
    )
    return events * len(routers) / (time.perf_counter() - began)


async def bench(folder: Path, events: int, rounds: int) -> None:
    with server() as database:
        async with targets(folder):
            with loaded(f"The router with each store, {rounds} rounds of {events:,} events"):
                await compare(folder, database, events, rounds)
            with loaded(f"Nodes on one server, {events:,} events each"):
                await nodes(folder, database, events)


def main(events: int = 3_000, rounds: int = 5) -> None:
    with TemporaryDirectory(dir=".") as name:
        asyncio.run(bench(Path(name).absolute(), events, rounds))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
