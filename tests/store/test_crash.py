"""The router killed at every boundary between two effects, and started again: each commit, each
send to a target, each reply. The same promises as in tests/chaos/ are checked after each.

`make crash-points` goes through all points; otherwise it is a few of them.
`ENGINE=httpx` has the reference send, not the native engine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import cached_property
from itertools import count
from pathlib import Path
from time import time

import pytest

from tests.chaos import store as kept
from tests.chaos.boundaries import COMMITS, SENDS, NoStrace, Point, killed_at, time_of_death
from tests.chaos.callers import Callers
from tests.chaos.history import History, Source, Struck, lines
from tests.chaos.plan import QUICK, TIMEOUTS, Blow, Manner, Mood, Plan
from tests.chaos.process import Router
from tests.chaos.report import story
from tests.chaos.routing import Routing
from tests.chaos.run import Played
from tests.chaos.targets import serving
from tests.chaos.verdict import judge

pytestmark = pytest.mark.anyio

#: The engine that speaks HTTP to targets.
ENGINE = os.environ.get("ENGINE", Plan.engine)

#: How long a scenario may take to be settled, in seconds: leases are shorter, and the end of a
#: record that nobody closes is later.
PATIENCE = 30.0

#: The events: one before strace looks on, so that what is loaded once is loaded; the one that
#: matters; and one when all is over.
WARM, MAIN, LAST = range(3)


class Scenario(Plan):
    """A required and an optional target fail once; then all is well. It is the same every time."""

    times = QUICK

    def mood(self, target: str, body: int, nth: int) -> tuple[Mood, float]:
        fails = body == MAIN and target in ("r1", "o0") and nth == 1
        return Mood.CODE if fails else Mood.WELL, 0.0

    def manner(self, source: int, nth: int) -> tuple[Manner, float]:
        return Manner.WAITS, 0.0

    def doomed(self, target: str, body: int) -> bool:
        return False

    def forgets(self, source: int, nth: int) -> bool:
        return False

    @cached_property
    def outages(self) -> dict[str, list[tuple[float, float]]]:
        return {target: [] for target in TIMEOUTS}


async def broken_at(point: Point, folder: Path) -> list[str] | None:
    """Return the broken promises after a kill at that point; None if the scenario ends before
    it."""
    history, plan = History(QUICK), Scenario(0, 0.0)
    router = Router(folder, engine=ENGINE)
    async with serving(plan, history) as targets, AsyncExitStack() as at_last:
        routing = Routing(router.routes, {name: url for name, (_, url) in targets.items()}, QUICK)
        history.tables.append(routing.write({"w0": "gone", "w1": "gone"}, 0.0))
        callers = Callers(plan, history, [router])
        measuring = asyncio.create_task(history.measure_lag())
        at_last.push_async_callback(router.end)
        await router.start()
        await callers.call(WARM, WARM)
        log = folder / "strace.log"
        async with killed_at(point, router.pid, log):
            keeping = asyncio.create_task(keep_up(router, history, log))
            await callers.call(MAIN, MAIN)
            await settled(router)
        # It may have been killed just when all was settled.
        await settled(router)
        last = await callers.call(LAST, LAST)
        keeping.cancel()
        measuring.cancel()
    history.lines = list(lines(router.log))
    return shown(plan, history, router, last) if history.struck else None


def shown(plan: Plan, history: History, router: Router, last: Source) -> list[str]:
    """Format the broken promises, and the story of the run if there are any."""
    judged = judge(Played(plan, history, kept.read(router.store), last))
    broken = [broken.what for broken in judged.broken]
    return [*broken, *story(judged, MAIN)] if broken else []


async def keep_up(router: Router, history: History, log: Path) -> None:
    """Start the router again whenever it has died."""
    while router.alive:
        await asyncio.sleep(0.02)
    history.struck.append(Struck(time_of_death(log), Blow.KILL, time()))
    await router.start()


async def settled(router: Router) -> None:
    """Wait until nothing is left to do and the router is up."""
    deadline = time() + PATIENCE
    while kept.unsettled(router.store) or not await router.answers():
        assert time() < deadline, "nothing settles"
        await asyncio.sleep(0.05)


#: Within the record's commit; before the failure is told; before the retry goes to its target;
#: between the record's close and its `000`. The first four writes are the sends to the targets.
FEW = [Point("fdatasync", 1), Point("write", 5), Point("write", 6), Point("write", 7)]


@pytest.mark.parametrize("point", FEW, ids=str)
async def test_a_crash_breaks_no_promise(point: Point, tmp_path: Path) -> None:
    """No event is lost, no `000` is false, and every second delivery has a cause."""
    try:
        assert await broken_at(point, tmp_path) == []
    except NoStrace as missing:
        pytest.skip(str(missing))


def series() -> Iterator[tuple[str, int, int]]:
    """Yield call, first number and step: every send and commit, and some of the writes of a commit,
    which a crash leaves torn. In two parts, which run at the same time."""
    for call in (*SENDS, *COMMITS):
        step = 5 if call == "pwrite64" else 2
        yield call, 1, step
        yield call, 2, step


@pytest.mark.skipif(os.environ.get("CRASH_POINTS") != "all", reason="CRASH_POINTS=all: minutes")
@pytest.mark.parametrize(("call", "first", "step"), list(series()))
async def test_no_crash_point_breaks_a_promise(
    call: str, first: int, step: int, tmp_path: Path
) -> None:
    """The router is killed at every boundary of the scenario in turn."""
    for number in count(first, step):
        point = Point(call, number)
        folder = tmp_path / str(point)
        folder.mkdir()
        broken = await broken_at(point, folder)
        if broken is None:
            break
        assert broken == [], point
