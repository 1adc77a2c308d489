"""One run: everything at once for a while, then quiet until all is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import time
from typing import Any

from tests.chaos.callers import Callers
from tests.chaos.history import History, Source
from tests.chaos.kept import Kept, read, unsettled
from tests.chaos.plan import ENDS, Blow, Edit, Plan
from tests.chaos.process import Router
from tests.chaos.routing import FIRST, Routing, edited
from tests.chaos.targets import Target, serving
from tests.chaos.told import lines

#: How much longer than the last record's end everything may take to settle, in seconds.
SLACK = 20.0


@dataclass(frozen=True, slots=True)
class Played:
    """What a run has left for the verdict."""

    plan: Plan
    history: History
    kept: Kept
    #: The event that came when all was calm again.
    last: Source


async def play(plan: Plan, folder: Path) -> Played:
    history = History()
    async with serving(plan, history) as targets:
        run = _Run(plan, folder, history, targets)
        measuring = asyncio.create_task(history.measure_lag())
        try:
            last = await run.play()
        finally:
            measuring.cancel()
            await run.router.end()
    history.told = list(lines(run.router.log))
    return Played(plan, history, read(run.router.store), last)


class _Run:
    def __init__(
        self,
        plan: Plan,
        folder: Path,
        history: History,
        targets: dict[str, tuple[Target, str]],
    ) -> None:
        self._plan = plan
        self._history = history
        self._targets = [target for target, _ in targets.values()]
        self.router = Router(folder, plan.workers)
        self._routing = Routing(
            self.router.routes, {name: url for name, (_, url) in targets.items()}
        )
        self._callers = Callers(plan, history, lambda: self.router.url)
        #: Held while the router is being started or struck.
        self._whip = asyncio.Lock()

    async def play(self) -> Source:
        """The event that comes last, when all is calm."""
        self._history.tables.append(self._routing.write(FIRST, 0.0))
        await self._start()
        self._history.began = time()
        plan, call = self._plan, self._callers.call
        calls = [self._at(s.at, call(number, s.body)) for number, s in enumerate(plan.sendings)]
        edits = [self._at(edit.at, self._edit(edit)) for edit in plan.edits]
        await self._strike()
        await asyncio.gather(*edits)
        self._calm()
        await asyncio.gather(*calls)
        await self._callers.settled()
        await self._settled()
        number = next(n for n in count(len(calls)) if not self._doomed(n))
        return await call(number, number)

    def _at(self, seconds: float, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Begin with it so many seconds after the beginning."""

        async def later() -> object:
            await asyncio.sleep(self._history.began + seconds - time())
            return await work

        return asyncio.create_task(later())

    def _doomed(self, body: int) -> bool:
        return any(self._plan.doomed(target.name, body) for target in self._targets)

    async def _start(self) -> None:
        self._routing.mend()
        await self.router.start()

    async def _strike(self) -> None:
        """Every blow in turn; one that ends the router is followed by a new one."""
        random = self._plan.random("victims")
        over = self._history.began + self._plan.seconds
        for up, blow, down in self._plan.blows:
            await asyncio.sleep(min(up, max(0.0, over - time())))
            if time() >= over:
                return
            async with self._whip:
                if not self.router.alive:
                    self._history.faults.append("the router ended by itself")
                self._history.struck.append(await self.router.strike(blow, random))
                if blow is not Blow.WORKER:
                    await asyncio.sleep(down)
                    await self._start()

    async def _edit(self, edit: Edit) -> None:
        async with self._whip:
            table = edited(self._routing, edit)
            self._history.edits += 1
            if table is not None:
                self._history.tables.append(table)
            if edit.told:
                self.router.hang_up()

    def _calm(self) -> None:
        """All faults end."""
        self._callers.calm = True
        for target in self._targets:
            target.calm = True

    async def _settled(self) -> None:
        until = time() + ENDS + SLACK
        while time() < until and unsettled(self.router.store):
            await asyncio.sleep(0.1)
