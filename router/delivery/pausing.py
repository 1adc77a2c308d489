"""Pauses, and outages of the store, as all parts of a process follow them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Protocol

from router.store.pauses import Pause
from router.store.promises import Store, StoreFailed

#: How often the store is asked, in seconds.
PAUSES_EVERY = 0.5

#: How long it may take to answer, in seconds. Nobody waits for it.
PAUSES_TIMEOUT = 5.0


class PauseWatcher(Protocol):
    """Is told what begins and ends, for the log."""

    def paused(self, pause: Pause) -> None: ...

    def resumed(self, pause: Pause) -> None:
        """It is over, or `resumed_by` somebody."""
        ...


class Pausing:
    """Every process has one. A store that is away is told of elsewhere: here it means that what is
    known goes on."""

    def __init__(
        self,
        store: Store,
        hold: Callable[[Collection[Pause], float], None],
        watcher: PauseWatcher,
    ) -> None:
        """`hold` takes the pauses in force, and the store's time."""
        self._store = store
        self._hold = hold
        self._watcher = watcher
        #: By target.
        self._in_force: dict[str, Pause] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(PAUSES_EVERY)

    async def look(self) -> None:
        known = self._in_force
        with suppress(StoreFailed):
            known = {each.target: each for each in await self._store.pauses(PAUSES_TIMEOUT)}
        now = self._store.now()
        before = self._in_force
        self._in_force = {name: each for name, each in known.items() if each.until > now}
        self._hold(self._in_force.values(), now)
        for name, each in before.items():
            if name not in self._in_force:
                self._watcher.resumed(known.get(name, each))
        for name, each in self._in_force.items():
            if each != before.get(name):
                self._watcher.paused(each)


class Outage:
    """Begins with a failure, and is over once each of the rounds has gone well since: one that
    only reads may go well all along. Times are seconds on any steady clock."""

    def __init__(self, rounds: Iterable[str], now: float) -> None:
        #: When each round last went well. What goes well in an outage does not count.
        self._well = dict.fromkeys(rounds, now)
        #: The rounds that have to go well until it is over; none while there is no outage.
        self._owed: set[str] = set()

    def begin(self) -> None:
        """Something failed; also while it lasts."""
        self._owed = set(self._well)

    def went_well(self, name: str, now: float) -> float | None:
        """A round went well: how long the outage was that is over with it, if one is."""
        if not self._owed:
            self._well[name] = now
            return None
        self._owed.discard(name)
        if self._owed:
            return None
        seconds = now - min(self._well.values())
        self._well = dict.fromkeys(self._well, now)
        return seconds
