"""One run: everything at once for a while, then quiet until all is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from time import time
from typing import Any

from tests.chaos.callers import Callers
from tests.chaos.history import History, Source, Struck, lines
from tests.chaos.plan import Blow, Edit, Plan
from tests.chaos.process import Router
from tests.chaos.routing import FIRST, NOTICED, SIGNALLED, Routing
from tests.chaos.store import Kept, Weather, read, unsettled
from tests.chaos.targets import Target, serving

#: How much longer than the last record's end everything may take to settle, in seconds.
SLACK = 20.0


@dataclass(frozen=True, slots=True)
class Played:
    plan: Plan
    history: History
    kept: Kept
    #: The event that came when all was calm again.
    last: Source


async def play(plan: Plan, folder: Path, above: Weather) -> Played:
    history = History(plan.times)
    async with serving(plan, history) as targets:
        run = _Run(plan, folder, history, targets, above)
        measuring = asyncio.create_task(history.measure_lag())
        try:
            last = await run.play()
        finally:
            measuring.cancel()
            await asyncio.gather(*(router.end() for router in run.routers))
    found = chain.from_iterable(lines(router.log) for router in run.routers)
    history.lines = sorted(found, key=lambda line: line.at)
    return Played(plan, history, read(above.store), last)


class _Run:
    def __init__(
        self,
        plan: Plan,
        folder: Path,
        history: History,
        targets: dict[str, tuple[Target, str]],
        weather: Weather,
    ) -> None:
        self._plan = plan
        self._history = history
        self._targets = [target for target, _ in targets.values()]
        self._weather = weather
        self.routers = [
            Router(folder, node, weather.seen[node], plan.engine) for node in range(plan.nodes)
        ]
        # All of them read one file: nothing else distributes it.
        urls = {name: url for name, (_, url) in targets.items()}
        self._routing = Routing(self.routers[0].routes, urls, plan.times)
        self._callers = Callers(plan, history, self.routers)
        #: Each is held while that router is being started or struck.
        self._whips = [asyncio.Lock() for _ in self.routers]

    async def play(self) -> Source:
        self._history.tables.append(self._routing.write(FIRST, 0.0))
        await asyncio.gather(*map(self._start, self.routers))
        self._history.began = time()
        plan, call = self._plan, self._callers.call
        calls: list[asyncio.Task[Source]] = []
        sending = asyncio.create_task(self._send(calls))
        edits = [self._at(edit.at, self._edit(edit)) for edit in plan.edits]
        upgrades = [self._at(upgrade, self._upgrade()) for upgrade in plan.upgrades]
        over = asyncio.sleep(plan.lasts)
        await asyncio.gather(over, *map(self._strike, self.routers), self._storm())
        await asyncio.gather(*edits, *upgrades)
        await self._bring_back()
        self._calm()
        sending.cancel()
        await asyncio.gather(*calls)
        await self._callers.settled()
        await self._settled()
        number = next(n for n in count(len(calls)) if not self._doomed(n))
        return await call(number, number)

    async def _send(self, calls: list[asyncio.Task[Source]]) -> None:
        """Begin one event after the other."""
        for number, (at, body) in enumerate(self._plan.sendings):
            await asyncio.sleep(max(0.0, self._history.began + at - time()))
            calls.append(asyncio.create_task(self._callers.call(number, body)))

    def _at(self, seconds: float, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Begin so many seconds after the start."""

        async def later() -> object:
            await asyncio.sleep(self._history.began + seconds - time())
            return await work

        return asyncio.create_task(later())

    def _doomed(self, body: int) -> bool:
        return any(self._plan.doomed(target.name, body) for target in self._targets)

    async def _start(self, router: Router) -> None:
        self._routing.mend()
        await router.start()

    async def _strike(self, router: Router) -> None:
        over = self._history.began + self._plan.seconds
        for up, blow, down in self._plan.blows(router.node):
            await asyncio.sleep(min(up, max(0.0, over - time())))
            if time() >= over:
                return
            await self._blow(router, blow, down)

    async def _blow(self, router: Router, blow: Blow, down: float) -> None:
        async with self._whips[router.node]:
            if not router.alive:
                self._history.faults.append("a router ended by itself")
            self._history.struck.append(await router.strike(blow))
            await asyncio.sleep(down)
            await self._start(router)

    async def _upgrade(self) -> None:
        for router in self.routers:
            await self._blow(router, Blow.TERM, 0.0)

    async def _storm(self) -> None:
        for at, storm, node, seconds in self._plan.storms:
            await asyncio.sleep(max(0.0, self._history.began + at - time()))
            began = time()
            await self._weather.strike(storm, node, seconds)
            self._history.storms.append(Struck(began, storm, time(), node))

    async def _edit(self, edit: Edit) -> None:
        async with AsyncExitStack() as whips:
            for whip in self._whips:
                await whips.enter_async_context(whip)
            if edit.broken and time() < self._history.tables[-1].taken:
                return  # no router may have seen the last valid one yet
            self._history.edits += 1
            if edit.broken:
                self._routing.spoil()
            else:
                takes = SIGNALLED if edit.signalled else NOTICED
                self._history.tables.append(self._routing.write(edit.sides, takes))
            if edit.signalled:
                for router in self.routers:
                    router.hang_up()

    async def _bring_back(self) -> None:
        """Define every target again: the queue waits minutes for one that is gone."""
        if self._routing.keeps_some_waiting:
            await self._edit(Edit(0.0, FIRST, signalled=True, broken=False))
            await asyncio.sleep(SIGNALLED)

    def _calm(self) -> None:
        self._callers.calm = True
        for target in self._targets:
            target.calm = True

    async def _settled(self) -> None:
        until = time() + self._plan.times.ends + SLACK
        left = partial(unsettled, self._weather.store)
        while time() < until and await asyncio.to_thread(left) > 0:
            await asyncio.sleep(0.1)
