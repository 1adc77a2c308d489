"""Events of the router's own: what happens to it goes through its routes, to optional targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from router.delivery import rules
from router.delivery.happenings.kinds import EVENTS_BACK, EVENTS_SILENT, Happening, HappeningKind
from router.delivery.happenings.silence import Silence
from router.delivery.rules import InForce
from router.delivery.target.sender import Flight, addressed
from router.model.event import Letter, new_id
from router.routing.target import Target
from router.store.promises import DeliveryRow, Notice, State, Store, StoreFailed
from router.telemetry.log import Log
from router.telemetry.log.lines import utc
from router.telemetry.metrics import Metrics

#: The most happenings that wait to be told; what comes beyond is counted.
MAX_UNTOLD = 1000

#: The most that are told in one round of the queue.
MAX_TOLD = 50

#: How long a call of the store may take, in seconds. Nobody waits for it but the queue's tidying.
_STORE_TIME = 2.0


class OwnSender(Protocol):
    """The part of a Sender that is needed where nothing can be queued."""

    def send(self, target: Target, letter: Letter, patience: float) -> Flight: ...


class OwnEvents:
    """One for the process. What is told is noted in the store, so that one of several processes
    tells it; it goes to the queue, and out once where that can't take it.

    It costs no event anything: who notices something puts it down here, and the queue's round takes
    it from there. Nothing is put down that no route is meant for.
    """

    def __init__(self, in_force: Callable[[], InForce], metrics: Metrics, log: Log) -> None:
        self._in_force = in_force
        self._metrics = metrics
        self._log = log
        #: What is not told yet, by key.
        self._waiting: dict[str, Happening] = {}
        #: So many found no room there.
        self._dropped = 0
        #: What this process knows to be told, by what it is told of.
        self._known: dict[str, Notice] = {}
        self._silence = Silence(metrics)
        #: Attempts in flight: nobody else holds them.
        self._flights: set[Flight] = set()

    def tell(
        self, kind: HappeningKind, detail: Mapping[str, Any], about: str = "", mark: str = ""
    ) -> None:
        """It has happened: to the target that it is `about`, if it is about one. `mark` tells it
        from others of its kind."""
        if self._hearers(kind, about):
            self._put(Happening(kind, about, mark, {**self._of_target(about), **detail}))

    async def hand_over(self, store: Store, sender: OwnSender) -> None:
        """Tell what has happened until now, as much of it as one round may."""
        with suppress(StoreFailed):
            await self._listen(store)
        left = MAX_TOLD
        for key, happening in list(self._waiting.items()):
            if not happening.may_follow(self._known.get(happening.of), store.now()):
                if not happening.kind.gathers:
                    del self._waiting[key]
                continue
            # What happens while the store is asked counts as new.
            del self._waiting[key]
            left -= 1
            if not await self._tell(happening, store, sender) or not left:
                return

    async def _tell(self, happening: Happening, store: Store, sender: OwnSender) -> bool:
        """Whether there is time for another: a store that is away may have taken all of it."""
        hearers = self._hearers(happening.kind, happening.about)
        if not hearers:
            return True  # another configuration is in force
        try:
            if not await self._is_first(happening, store):
                if happening.kind.gathers:
                    self._put(happening)
                return True
        except StoreFailed:
            pass  # rather told by several than by none
        event, self._dropped = happening.event(self._dropped), 0
        event_id, now = new_id(), store.now()
        letter = addressed(Letter.of(event, request_id=new_id()), event_id)
        self._log.info("own_event", event_id=event_id, event_key=event.event_key)
        rows = [DeliveryRow(target.name, State.QUEUED, due_at=now) for target in hearers]
        try:
            await store.add(rules.answered(event_id, now, now), letter, rows, _STORE_TIME)
        except StoreFailed:
            for target in hearers:
                self._send(target, letter, sender)
            return not store.remembers
        return True

    def _hearers(self, kind: HappeningKind, about: str) -> list[Target]:
        """Never the target that it is about."""
        plan = self._in_force().table.match(kind.event(about))
        return [target for target in plan.optional if target.name != about]

    def _of_target(self, name: str) -> dict[str, Any]:
        target = self._in_force().targets.get(name)
        if target is None:
            return {}
        numbers = self._metrics.of(name)
        waiting = numbers.unsettled[State.AWAITING] + numbers.unsettled[State.QUEUED]
        gives_up = {} if numbers.gives_up is None else {"gives_up": utc(numbers.gives_up)}
        return {"owner": target.owner, "waiting": waiting, **gives_up}

    def _put(self, happening: Happening) -> None:
        before = self._waiting.get(happening.key)
        if before is None and len(self._waiting) >= MAX_UNTOLD:
            self._dropped += happening.count
            return
        count = happening.count + (before.count if before else 0)
        self._waiting[happening.key] = replace(happening, count=count)

    async def _is_first(self, happening: Happening, store: Store) -> bool:
        """Whether no other process has told it; from now on this one has. Raises StoreFailed."""
        of, now = happening.of, store.now()
        if not of:
            return True
        notice = self._known[of] = happening.notice(now)
        before = await store.notice(of, _STORE_TIME)
        if before is None or happening.may_follow(before, now):
            return await store.notify(of, notice, before, _STORE_TIME)
        self._known[of] = before
        return False

    def _send(self, target: Target, letter: Letter, sender: OwnSender) -> None:
        """Once, and nobody waits for it."""

        def ended(flight: Flight) -> None:
            self._flights.discard(flight)
            if flight.error is not None or not flight.result().acknowledged:
                self._metrics.of(target.name).lost += 1

        flight = sender.send(target, letter, 0.0)
        self._flights.add(flight)
        flight.listen(ended)

    async def _listen(self, store: Store) -> None:
        """Whether EBaaS has fallen silent, or is heard again. Raises StoreFailed."""
        after = self._in_force().terms.silent_after
        if after is None or not self._hearers(EVENTS_SILENT, ""):
            return
        turn = await self._silence.look(store, after, _STORE_TIME)
        if turn is not None:
            kind = EVENTS_SILENT if turn.silent else EVENTS_BACK
            self.tell(kind, {"since": utc(turn.since)})
