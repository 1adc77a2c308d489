"""Pauses, as all parts of a process follow them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

from router.delivery.observer import Observer
from router.store.protocol import Pause, Store, StoreFailed

#: How often the store is asked, in seconds.
PAUSES_EVERY = 0.5

#: How long it may take to answer, in seconds. Nobody waits for it.
PAUSES_TIMEOUT = 5.0


class Pausing:
    """Every process has one. A store that is away is told of elsewhere: here it means that what is
    known goes on."""

    def __init__(
        self,
        store: Store,
        hold: Callable[[Collection[Pause], float], None],
        observer: Observer,
    ) -> None:
        """`hold` takes the pauses in force, and the store's time."""
        self._store = store
        self._hold = hold
        self._observer = observer
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
                self._observer.resumed(known.get(name, each))
        for name, each in self._in_force.items():
            if each != before.get(name):
                self._observer.paused(each)
