"""The kinds of happenings, and one of them as the event that it becomes. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.model.event import FIELDS, OWN_SOURCE, Event
from router.store.promises import Notice

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
        return event.but(body=body.encode(errors="replace"), changes=changes)
