"""What a look-up costs, by the number of routes: python -m bench.routes

Each row is measured in a process of its own, the garbage collector off as in timeit. A cold
look-up is one of an event that was never seen before; its route is any one of the table, so among
100,000 it is in no processor cache either. Beside it, the same for events of ten routes only:
what is left is what the size costs. Hot is an event that was seen before. The first look-up that
meets a pattern with ? or sets compiles it, which is most of what that row's cold costs.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from router.model.event import Event
from router.routing.table import Route, RouteTable
from router.routing.target import Target

SIZES = (10, 1_000, 100_000)
LOOK_UPS = 10_000
ROUNDS = 3
TARGETS = {name: Target(name, "http://127.0.0.1:9001/callback") for name in ("ledger", "audit")}
PAGE = 4096

Match = dict[str, tuple[str, ...]]


class Shape(NamedTuple):
    """How users write routes: what route `n` matches, and the fields of an event that it does."""

    match: Callable[[int], Match]
    fields: Callable[[int], dict[str, str]]


def key(pattern: str, value: str) -> Shape:
    """A shape of keys alone; `#` stands for the route's number."""
    return Shape(
        lambda n: {"event_key": (pattern.replace("#", str(n)),)},
        lambda n: {"event_key": value.replace("#", str(n))},
    )


SHAPES = {
    "exact": key("a.gs.cert#.1", "a.gs.cert#.1"),
    "prefix": key("a.gs#.*", "a.gs#.cert.1"),
    "suffix": key("*.cert.#", "a.gs.cert.#"),
    "infix": key("*.cert#.*", "a.gs.cert#.1"),
    "several stars": key("a.*.cert#.*", "a.gs.cert#.1"),
    "? and sets": key("a.gs#.c?rt.[34]", "a.gs#.cert.3"),
    "one field": Shape(
        lambda n: {"event_topic": (f"gs{n}-*",)}, lambda n: {"event_topic": f"gs{n}-eu"}
    ),
    "two fields": Shape(
        lambda n: {"event_source": (f"s{n % 300}",), "event_topic": (f"gs{n // 300}",)},
        lambda n: {"event_source": f"s{n % 300}", "event_topic": f"gs{n // 300}"},
    ),
    "key and a list": Shape(
        lambda n: {"event_key": (f"a.*.cert{n}.*",), "event_type": ("cert", "key")},
        lambda n: {"event_key": f"a.gs.cert{n}.1"},
    ),
    "start and end": Shape(
        lambda n: {"event_key": (f"a{n % 300}.*.{n // 300}",)},
        lambda n: {"event_key": f"a{n % 300}.gs.cert.{n // 300}"},
    ),
}


def mixed() -> Shape:
    """All of them in one table."""
    shapes = list(SHAPES.values())
    return Shape(
        lambda n: shapes[n % len(shapes)].match(n), lambda n: shapes[n % len(shapes)].fields(n)
    )


class Row(NamedTuple):
    """Seconds and bytes."""

    compile: float
    memory: int
    cold: float
    cold_of_ten: float
    hot: float
    #: Routes that an event matches, on average.
    matching: float


def event(fields: dict[str, str], serial: int) -> Event:
    """An event like no other, for its status."""
    sample = {"event_source": "a", "event_topic": "gs", "event_type": "cert", "event_key": "k"}
    return Event(**{**sample, **fields}, event_status=f"s{serial}", body=b"")


def resident() -> int:
    """This process's memory, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def timed(table: RouteTable, events: Iterable[Event]) -> float:
    match = table.match
    gc.disable()
    start = time.perf_counter()
    for each in events:
        match(each)
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds


def cold(table: RouteTable, shape: Shape, of: int, first: int) -> float:
    """Seconds for each of LOOK_UPS events of `of` routes; their serials begin with `first`."""
    numbers = range(first, first + LOOK_UPS)
    events = [event(shape.fields(n * 7919 % of), n) for n in numbers]
    return timed(table, events) / LOOK_UPS


def measure(name: str, size: int) -> Row:
    shape = SHAPES.get(name) or mixed()
    routes = [
        Route(f"route {n}", shape.match(n), required=("ledger",), optional=("audit",))
        for n in range(size)
    ]
    before = resident()
    start = time.perf_counter()
    table = RouteTable(routes, TARGETS)
    compiled = time.perf_counter() - start
    memory = resident() - before
    cold_all, cold_ten = (
        min(cold(table, shape, of, LOOK_UPS * (at + offset)) for at in range(ROUNDS))
        for of, offset in ((size, 0), (10, ROUNDS))
    )
    seen = [event(shape.fields(3), 0)] * LOOK_UPS
    hot = min(timed(table, seen) for _ in range(ROUNDS)) / LOOK_UPS
    sample = [event(shape.fields(n * 7919 % size), n) for n in range(1_000)]
    matching = sum(len(table.match(each).routes) for each in sample) / len(sample)
    return Row(compiled, memory, cold_all, cold_ten, hot, matching)


def main() -> None:
    print(
        f"{'shape':<16}{'routes':>8}{'matching':>10}{'compile s':>11}{'memory MB':>11}"
        f"{'cold µs':>9}{'of ten µs':>11}{'hot µs':>8}"
    )
    for name in (*SHAPES, "all of them"):
        for size in SIZES:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                row = process.apply(measure, (name, size))
            print(
                f"{name:<16}{size:>8,}{row.matching:>10.1f}{row.compile:>11.3f}"
                f"{row.memory / 1e6:>11.1f}{row.cold * 1e6:>9.1f}{row.cold_of_ten * 1e6:>11.1f}"
                f"{row.hot * 1e6:>8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
