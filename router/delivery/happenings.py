"""Notifications: the router's own events about targets, reloads and silence, for its own routes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from router.delivery import rules
from router.delivery.rules import InForce
from router.delivery.target.gate import Failing
from router.delivery.target.sender import Flight, addressed
from router.model.event import FIELDS, OWN_KEYS, OWN_SOURCE, Event, OutboundEvent, new_id
from router.routing.target import Target
from router.store.protocol import DeliveryRow, Notice, State, Store, StoreFailed
from router.telemetry.log import Log
from router.telemetry.log.lines import utc
from router.telemetry.metrics import Metrics

#: For how long the same is not told again, in seconds: less than the hour after which a target that
#: goes on failing is noticed again.
QUIET_FOR = 3000.0

#: For how long what comes in numbers is counted until it is told again, in seconds.
GATHERED = 60.0

#: So long before an event is given up that is told, and not again, in seconds.
LAST_CHANCE = 3600.0


@dataclass(frozen=True, slots=True)
class HappeningKind:
    """One kind of happening."""

    topic: str
    type: str
    #: `1` where something is wrong, `0` where it is over or mere news.
    status: str
    #: What it is told of, and where it is about a target, of which: the last notice of that says
    #: what was told. With `""` there is none, and whoever notices it tells it.
    of: str
    #: For how long the same is not told again, in seconds.
    quiet: float = QUIET_FOR
    #: Whether what may not be told yet is counted, and told then.
    gathers: bool = False

    def event(self, about: str) -> Event:
        """As routes see it."""
        names = (OWN_SOURCE, self.topic, self.type, about)
        key = ".".join(name for name in names if name)
        return Event(OWN_SOURCE, self.topic, self.type, self.status, key, b"")


TARGET_FAILING = HappeningKind("target", "failing", "1", of="target")
#: Once for each time that it was told of failing, however late others see it acknowledge again.
TARGET_RECOVERED = HappeningKind("target", "recovered", "0", of="target", quiet=math.inf)
DELIVERY_DEAD = HappeningKind("delivery", "dead", "1", of="dead", quiet=GATHERED, gathers=True)
DELIVERY_LAST_CHANCE = HappeningKind(
    "delivery", "last_chance", "1", of="last_chance", quiet=LAST_CHANCE
)
CONFIG_REFUSED = HappeningKind("config", "refused", "1", of="config")
CONFIG_CHANGED = HappeningKind("config", "changed", "0", of="config")
#: While it is away nobody can know who else has told it.
STORE_FAILING = HappeningKind("store", "failing", "1", of="")
STORE_BACK = HappeningKind("store", "back", "0", of="store", quiet=GATHERED / 2)
#: Noted as they are noticed.
EVENTS_SILENT = HappeningKind("events", "silent", "1", of="")
EVENTS_BACK = HappeningKind("events", "back", "0", of="")


@dataclass(frozen=True, slots=True)
class Happening:
    """What waits to be told."""

    kind: HappeningKind
    #: The target that it is about; `""` where it is about none.
    about: str
    #: What tells it from another of its kind.
    mark: str
    detail: Mapping[str, Any]
    count: int = 1

    @property
    def key(self) -> str:
        return self.kind.event(self.about).event_key

    @property
    def of(self) -> str:
        """What it is told of; `""` for what has no notice."""
        return f"{self.kind.of}.{self.about}" if self.about else self.kind.of

    def notice(self, now: float) -> Notice:
        return Notice(f"{self.kind.type} {self.mark}".rstrip(), now)

    def may_follow(self, told: Notice | None, now: float) -> bool:
        """Whether it may be told now, after that."""
        if told is None or told.what != self.notice(now).what:
            return True
        return told.at <= now - self.kind.quiet

    def event(self, dropped: int) -> Event:
        """In the contract's own form; `dropped` others found no room to wait in."""
        event = self.kind.event(self.about)
        detail = dict(self.detail)
        if self.kind.gathers:
            detail["count"] = self.count
        if dropped:
            detail["dropped"] = dropped
        changes = [self.about] if self.about else []
        fields = {
            **{name: getattr(event, name) for name in FIELDS},
            "changes": changes,
            "detail": detail,
        }
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return event.replace(body=body.encode(errors="replace"), changes=changes)


#: How long the store has to fail until it is told, in seconds.
STORE_TOLD_AFTER = 30.0


class Happenings:
    """Receives each of the router's own events when it is noticed."""

    def __init__(
        self, tell: Callable[..., None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`tell` is that of OwnEvents."""
        self._tell = tell
        self._monotonic = monotonic
        #: Since when the store fails, on the monotonic clock; 0 while it does not.
        self._store_fails_since = 0.0
        self._store_is_told = False

    def failing(self, target: Target, failing: Failing) -> None:
        """A target has acknowledged nothing for a while, or does again."""
        last = failing.last
        told: dict[str, Any] = {"since": utc(failing.since), "attempts": failing.attempts}
        if last.acknowledged:
            told["seconds"] = round(last.at - failing.since)
            self._tell(TARGET_RECOVERED, told, target.name)
            return
        said = f"{last.code} {last.msg}".strip() or last.detail
        told |= {"reason": str(last.reason), "status": last.status, "said": said}
        self._tell(TARGET_FAILING, told, target.name)

    def dead(self, target: str, reason: str, event_id: str, event_key: str) -> None:
        """A dead letter; one of the router's own events makes no other of them."""
        if not event_key.startswith(OWN_KEYS):
            told = {"reason": reason, "event_id": event_id, "event_key": event_key}
            self._tell(DELIVERY_DEAD, told, target)

    def gives_up(self, gives_up: Mapping[str, float], now: float) -> None:
        """When the first event of each target is given up."""
        for target, at in gives_up.items():
            if at <= now + LAST_CHANCE:
                self._tell(DELIVERY_LAST_CHANCE, {"gives_up": utc(at)}, target)

    def reloaded(self, config: str, changes: Sequence[str], problems: Sequence[str]) -> None:
        """A configuration was taken into force, or refused for its problems."""
        if problems:
            mark = sha256("\n".join(problems).encode(errors="replace")).hexdigest()
            self._tell(CONFIG_REFUSED, {"problems": problems}, "", mark)
        else:
            self._tell(CONFIG_CHANGED, {"config": config, "changes": changes}, "", config)

    def store_failed(self, error: StoreFailed) -> None:
        """Once it has gone on for a while."""
        now = self._monotonic()
        since = self._store_fails_since = self._store_fails_since or now
        if now - since >= STORE_TOLD_AFTER and not self._store_is_told:
            self._store_is_told = True
            began = utc(time.time() - (now - since))
            self._tell(STORE_FAILING, {"since": began, "error": str(error)})

    def store_back(self, seconds: float) -> None:
        if self._store_is_told:
            self._tell(STORE_BACK, {"seconds": round(seconds, 1)})
        self._store_fails_since, self._store_is_told = 0.0, False


#: An event that comes is noted, but only once in this part of the silence that is told of.
_NOTED = 0.1

_NAME, _HEARD, _SILENT = "events", "heard", "silent"


@dataclass(frozen=True, slots=True)
class Turn:
    """The caller has fallen silent, or is heard again."""

    silent: bool
    #: When the last event before the silence came, to a second; where none did, when this process
    #: started.
    since: float


class Silence:
    """The caller's, as one process sees it. The notice of it has when an event came last, or when
    it was told that none does any more."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        #: Until the first event this is when the process started.
        self._began = metrics.last_event
        #: The notice, as far as it is known here.
        self._known: Notice | None = None

    async def look(self, store: Store, after: float, timeout: float) -> Turn | None:
        """What this process is the first to notice. Raises StoreFailed."""
        now, heard = store.now(), self._metrics.last_event
        last, known = now - (time.time() - heard), self._known
        if now - last >= after:
            if known is None or known.what != _SILENT:
                return await self._fall_silent(store, now, last, after, timeout)
        elif heard != self._began and not (
            known is not None
            and known.what == _HEARD
            and (last <= known.at or now < known.at + after * _NOTED)
        ):
            return await self._hear(store, last, after, timeout)
        return None

    async def _fall_silent(
        self, store: Store, now: float, last: float, after: float, timeout: float
    ) -> Turn | None:
        kept = await store.notice(_NAME, timeout)
        before = kept or self._known
        if before is not None and (before.what == _SILENT or now < before.at + after):
            self._known = before
            return None
        silent = self._known = Notice(_SILENT, now)
        if not await store.notify(_NAME, silent, kept, timeout):
            return None
        return Turn(True, last if before is None else before.at)

    async def _hear(self, store: Store, last: float, after: float, timeout: float) -> Turn | None:
        kept = await store.notice(_NAME, timeout)
        before = kept or self._known
        if before is not None and before.what == _HEARD and last <= before.at:
            self._known = before
            return None
        heard = self._known = Notice(_HEARD, last)
        is_first = await store.notify(_NAME, heard, kept, timeout)
        if is_first and before is not None and before.what == _SILENT:
            return Turn(False, before.at - after)
        return None


#: The most happenings that wait to be told; what comes beyond is counted.
MAX_UNTOLD = 1000

#: The most that are told in one round of the queue.
MAX_TOLD = 50

#: How long a call of the store may take, in seconds. Nobody waits for it but the queue's tidying.
_STORE_TIME = 2.0


#: One attempt, as a Sender makes it.
Send = Callable[[Target, OutboundEvent, float], Flight]


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

    async def hand_over(self, store: Store, send: Send) -> None:
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
            if not await self._tell(happening, store, send) or not left:
                return

    async def _tell(self, happening: Happening, store: Store, send: Send) -> bool:
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
        letter = addressed(OutboundEvent.of(event, request_id=new_id()), event_id)
        self._log.info("own_event", event_id=event_id, event_key=event.event_key)
        rows = [DeliveryRow(target.name, State.QUEUED, due_at=now) for target in hearers]
        try:
            await store.add(rules.answered(event_id, now, now), letter, rows, _STORE_TIME)
        except StoreFailed:
            for target in hearers:
                self._send(target, letter, send)
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

    def _send(self, target: Target, letter: OutboundEvent, send: Send) -> None:
        """Once, and nobody waits for it."""

        def ended(flight: Flight) -> None:
            self._flights.discard(flight)
            if flight.error is not None or not flight.result().acknowledged:
                self._metrics.of(target.name).lost += 1

        flight = send(target, letter, 0.0)
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
