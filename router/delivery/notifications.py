"""Notifications: the router's own events about targets, reloads and silence, for its own routes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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

#: How long the same notification is not sent again, in seconds: less than the hour after which a
#: target that goes on failing is reported again.
QUIET_FOR = 3000.0

#: How long notifications of a kind that `gathers` are counted until the next is sent, in seconds.
GATHERED = 60.0

#: How long before an event expires its notification is sent, in seconds.
LAST_CHANCE = 3600.0


@dataclass(frozen=True, slots=True)
class NotificationKind:
    """A kind of notification."""

    topic: str
    type: str
    #: `1` if something is wrong, `0` if it is over or mere news.
    status: str
    #: The subject, to which a kind about a target adds its name. The store keeps the last notice
    #: of each subject. With `""` there is no notice, and every process sends its own.
    subject: str
    #: How long the same is not sent again, in seconds.
    quiet: float = QUIET_FOR
    #: Whether notifications that may not be sent yet are counted, and sent then.
    gathers: bool = False

    def event(self, about: str) -> Event:
        """Return the event that routes match; it has no body."""
        names = (OWN_SOURCE, self.topic, self.type, about)
        key = ".".join(name for name in names if name)
        return Event(OWN_SOURCE, self.topic, self.type, self.status, key, b"")


TARGET_FAILING = NotificationKind("target", "failing", "1", subject="target")
#: Once for each `failing`, however late other processes see the target acknowledge again.
TARGET_RECOVERED = NotificationKind("target", "recovered", "0", subject="target", quiet=math.inf)
DELIVERY_DEAD = NotificationKind(
    "delivery", "dead", "1", subject="dead", quiet=GATHERED, gathers=True
)
DELIVERY_LAST_CHANCE = NotificationKind(
    "delivery", "last_chance", "1", subject="last_chance", quiet=LAST_CHANCE
)
CONFIG_REFUSED = NotificationKind("config", "refused", "1", subject="config")
CONFIG_CHANGED = NotificationKind("config", "changed", "0", subject="config")
#: While the store is away, no process can know what others have sent.
STORE_FAILING = NotificationKind("store", "failing", "1", subject="")
STORE_BACK = NotificationKind("store", "back", "0", subject="store", quiet=GATHERED / 2)
#: `Silence` writes its own notice.
EVENTS_SILENT = NotificationKind("events", "silent", "1", subject="")
EVENTS_BACK = NotificationKind("events", "back", "0", subject="")


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification that waits to be sent."""

    kind: NotificationKind
    #: The target that it is about, or the owner of refused files; `""` if it is about none.
    about: str
    #: Tells it from another of its kind.
    mark: str
    detail: Mapping[str, Any]
    count: int = 1

    @property
    def subject(self) -> str:
        """The subject of its notice; `""` if it has none."""
        return f"{self.kind.subject}.{self.about}" if self.about else self.kind.subject

    def notice(self, now: float) -> Notice:
        return Notice(f"{self.kind.type} {self.mark}".rstrip(), now)

    def may_follow(self, last: Notice | None, now: float) -> bool:
        """Return whether it may be sent now, after the last notice of its subject."""
        if last is None or last.what != self.notice(now).what:
            return True
        return last.at <= now - self.kind.quiet

    def event(self) -> Event:
        """Return it in the contract's form."""
        event = self.kind.event(self.about)
        detail = dict(self.detail)
        if self.kind.gathers:
            detail["count"] = self.count
        changes = [self.about] if self.about else []
        fields = {
            **{name: getattr(event, name) for name in FIELDS},
            "changes": changes,
            "detail": detail,
        }
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return event.replace(body=body.encode(errors="replace"), changes=changes)


#: How long the store has to fail before that is reported, in seconds.
REPORT_STORE_AFTER = 30.0


#: An event is noted in the store once in this part of the silence that is reported.
_NOTED = 0.1

_SUBJECT, _ACTIVE, _SILENT = "events", "heard", "silent"

#: The caller has fallen silent, or sends events again; and when the last event before the silence
#: came, to a second, or when this process started if none did.
Change = tuple[NotificationKind, float]


class Silence:
    """The caller's silence, as one process sees it. Its notice in the store has when the last event
    came, or when the silence was reported."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        #: Until the first event this is when the process started.
        self._began = metrics.last_event
        #: The notice as far as it is known here.
        self._known: Notice | None = None

    async def look(self, store: Store, after: float, timeout: float) -> Change | None:
        """Return a change that this process is the first to notice. Raises StoreFailed."""
        now, last_event, known = store.now(), self._metrics.last_event, self._known
        last = now - (time.time() - last_event)
        is_silent = now - last >= after
        if is_silent:
            if known is not None and known.what == _SILENT:
                return None
        elif last_event == self._began or (
            known is not None
            and known.what == _ACTIVE
            and (last <= known.at or now < known.at + after * _NOTED)
        ):
            return None
        kept = await store.notice(_SUBJECT, timeout)
        before = kept or known
        if before is not None and (
            before.what == _SILENT or now < before.at + after
            if is_silent
            else before.what == _ACTIVE and last <= before.at
        ):
            self._known = before
            return None
        self._known = Notice(_SILENT, now) if is_silent else Notice(_ACTIVE, last)
        if not await store.notify(_SUBJECT, self._known, kept, timeout):
            return None
        if is_silent:
            return EVENTS_SILENT, last if before is None else before.at
        if before is not None and before.what == _SILENT:
            return EVENTS_BACK, before.at - after
        return None


#: The most that are sent in one round of the queue.
MAX_PER_ROUND = 50

#: The time limit of a call of the store, in seconds. Only the queue's tidying waits for it.
_STORE_TIME = 2.0


#: Makes one attempt: `Sender.send`.
Send = Callable[[Target, OutboundEvent, float], Flight]


class Notifications:
    """Sends notifications; one per process. Each is noted in the store, so that only one of several
    processes sends it. It goes to the queue, or is sent once if the queue can't take it.

    They cost events nothing: `notify` only keeps one, and the queue's round does the rest. One that
    no route is meant for is not even kept.
    """

    def __init__(
        self,
        in_force: Callable[[], InForce],
        metrics: Metrics,
        log: Log,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_force = in_force
        self._metrics = metrics
        self._log = log
        self._monotonic = monotonic
        #: Since when the store fails, on the monotonic clock; 0 while it does not.
        self._store_fails_since = 0.0
        self._store_is_reported = False
        #: Notifications to send, by key: at most one of each kind for a target.
        self._waiting: dict[str, Notification] = {}
        #: The last notices as far as they are known here, by subject.
        self._known: dict[str, Notice] = {}
        #: Targets that acknowledge again, until their backlog is sent: the notification's detail,
        #: and since when, on the monotonic clock.
        self._catching_up: dict[str, tuple[dict[str, Any], float]] = {}
        self._silence = Silence(metrics)
        #: Attempts in flight: nothing else holds them.
        self._flights: set[Flight] = set()

    def failing(self, target: Target, failing: Failing) -> None:
        """A target has acknowledged nothing for a while, or does again. If recovery is about to
        send it what it missed, that is reported once it has arrived."""
        last, name = failing.last, target.name
        detail: dict[str, Any] = {"since": utc(failing.since), "attempts": failing.attempts}
        if last.acknowledged:
            detail["seconds"] = round(last.at - failing.since)
            if (missed := self._waiting_for(name)) and self._in_force().terms.recovers:
                self._catching_up[name] = {**detail, "missed": missed}, self._monotonic()
            else:
                self.notify(TARGET_RECOVERED, detail, name)
            return
        self._catching_up.pop(name, None)
        answer = f"{last.code} {last.msg}".strip() or last.detail
        detail |= {"reason": str(last.reason), "status": last.status, "said": answer}
        self.notify(TARGET_FAILING, detail, name)

    def backlog_sent(self, target: str) -> None:
        """A recovery has sent everything that it may send."""
        if (held := self._catching_up.pop(target, None)) is not None:
            detail, since = held
            seconds = round(self._monotonic() - since, 1)
            self.notify(TARGET_RECOVERED, {**detail, "backlog_seconds": seconds}, target)

    def waiting(self, targets: Collection[str]) -> None:
        """Something waits for these targets, and for no others."""
        for target in self._catching_up.keys() - targets:
            self.backlog_sent(target)

    def dead(self, target: str, reason: str, event_id: str, event_key: str) -> None:
        """A dead letter; those of the router's own events are not reported."""
        if not event_key.startswith(OWN_KEYS):
            detail = {"reason": reason, "event_id": event_id, "event_key": event_key}
            self.notify(DELIVERY_DEAD, detail, target)

    def expires_at(self, expires_at: Mapping[str, float], now: float) -> None:
        """Report targets whose first event expires soon."""
        for target, at in expires_at.items():
            if at <= now + LAST_CHANCE:
                self.notify(DELIVERY_LAST_CHANCE, {"expires_at": utc(at)}, target)

    def reloaded(
        self, config: str, changes: Sequence[str], problems: Sequence[str], owner: str
    ) -> None:
        """A configuration was taken into force, or files of an owner were refused."""
        if problems:
            mark = sha256("\n".join(problems).encode(errors="replace")).hexdigest()
            detail = {"problems": problems, **({"owner": owner} if owner else {})}
            self.notify(CONFIG_REFUSED, detail, owner, mark)
        else:
            self.notify(CONFIG_CHANGED, {"config": config, "changes": changes}, "", config)

    def store_failed(self, error: StoreFailed) -> None:
        """Report it once it has lasted for a while."""
        now = self._monotonic()
        since = self._store_fails_since = self._store_fails_since or now
        if now - since >= REPORT_STORE_AFTER and not self._store_is_reported:
            self._store_is_reported = True
            began = utc(time.time() - (now - since))
            self.notify(STORE_FAILING, {"since": began, "error": str(error)})

    def store_back(self, seconds: float) -> None:
        if self._store_is_reported:
            self.notify(STORE_BACK, {"seconds": round(seconds, 1)})
        self._store_fails_since, self._store_is_reported = 0.0, False

    def notify(
        self, kind: NotificationKind, detail: Mapping[str, Any], about: str = "", mark: str = ""
    ) -> None:
        """Keep a notification until the next round; `about` is the target or the owner that it is
        about, and `mark` tells it from others of its kind."""
        if self._recipients(kind, about):
            of_target = self._of_target(about) if kind is not CONFIG_REFUSED else {}
            self._put(Notification(kind, about, mark, {**of_target, **detail}))

    async def hand_over(self, store: Store, send: Send) -> None:
        """Send the notifications that wait, as many as fit into one round."""
        with suppress(StoreFailed):
            await self._watch_silence(store)
        left = MAX_PER_ROUND
        for key, waiting in list(self._waiting.items()):
            if not waiting.may_follow(self._known.get(waiting.subject), store.now()):
                if not waiting.kind.gathers:
                    del self._waiting[key]
                continue
            # The same thing happening while the store is asked counts as new.
            del self._waiting[key]
            left -= 1
            if not await self._send(waiting, store, send) or not left:
                return

    async def _send(self, notification: Notification, store: Store, send: Send) -> bool:
        """Return whether there is time for another: an outage of the store may have taken it."""
        recipients = self._recipients(notification.kind, notification.about)
        if not recipients:
            return True  # another configuration is in force
        try:
            if not await self._is_first(notification, store):
                if notification.kind.gathers:
                    self._put(notification)
                return True
        except StoreFailed:
            pass  # better sent by several processes than by none
        event, event_id, now = notification.event(), new_id(), store.now()
        letter = addressed(OutboundEvent.of(event, request_id=new_id()), event_id, now)
        self._log.info("own_event", event_id=event_id, event_key=event.event_key)
        rows = [DeliveryRow(target.name, State.QUEUED, due_at=now) for target in recipients]
        try:
            await store.add(rules.record_answered(event_id, now, now), letter, rows, _STORE_TIME)
        except StoreFailed:
            for target in recipients:
                self._send_once(target, letter, send)
            return not store.remembers
        return True

    def _recipients(self, kind: NotificationKind, about: str) -> list[Target]:
        """Return the targets of its routes, but never the target that it is about."""
        optional = self._in_force().table.match(kind.event(about)).optional
        if kind is CONFIG_REFUSED:  # about an owner, who may have the name of a target
            return [*optional]
        return [target for target in optional if target.name != about]

    def _of_target(self, name: str) -> dict[str, Any]:
        target = self._in_force().targets.get(name)
        if target is None:
            return {}
        at = self._metrics.of(name).expires_at
        expires_at = {} if at is None else {"expires_at": utc(at)}
        return {"owner": target.owner, "waiting": self._waiting_for(name), **expires_at}

    def _waiting_for(self, target: str) -> float:
        unsettled = self._metrics.of(target).unsettled
        return unsettled[State.AWAITING] + unsettled[State.QUEUED]

    def _put(self, notification: Notification) -> None:
        key = notification.kind.event(notification.about).event_key
        before = self._waiting.get(key)
        count = notification.count + (before.count if before else 0)
        self._waiting[key] = replace(notification, count=count)

    async def _is_first(self, notification: Notification, store: Store) -> bool:
        """Write its notice; return whether no other process has sent it. Raises StoreFailed."""
        subject, now = notification.subject, store.now()
        if not subject:
            return True
        notice = self._known[subject] = notification.notice(now)
        before = await store.notice(subject, _STORE_TIME)
        if before is None or notification.may_follow(before, now):
            return await store.notify(subject, notice, before, _STORE_TIME)
        self._known[subject] = before
        return False

    def _send_once(self, target: Target, letter: OutboundEvent, send: Send) -> None:
        def ended(flight: Flight) -> None:
            self._flights.discard(flight)
            if flight.error is not None or not flight.result().acknowledged:
                self._metrics.of(target.name).lost += 1

        flight = send(target, letter, 0.0)
        self._flights.add(flight)
        flight.listen(ended)

    async def _watch_silence(self, store: Store) -> None:
        """Report that EBaaS has fallen silent, or sends events again. Raises StoreFailed."""
        after = self._in_force().terms.silent_after
        if after is None or not self._recipients(EVENTS_SILENT, ""):
            return
        change = await self._silence.look(store, after, _STORE_TIME)
        if change is not None:
            kind, since = change
            self.notify(kind, {"since": utc(since)})
