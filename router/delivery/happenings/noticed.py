"""What is noticed of the router, as the happenings that it makes, each with its detail."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from router.delivery.happenings.kinds import (
    CONFIG_CHANGED,
    CONFIG_REFUSED,
    DELIVERY_DEAD,
    DELIVERY_LAST_CHANCE,
    LAST_CHANCE,
    STORE_BACK,
    STORE_FAILING,
    TARGET_FAILING,
    TARGET_RECOVERED,
)
from router.delivery.happenings.own_events import OwnEvents
from router.delivery.target.gate import Failing
from router.model import OWN_KEYS, Problem
from router.routing import Target
from router.store import StoreFailed
from router.telemetry import utc

#: How long the store has to fail until it is told, in seconds.
STORE_TOLD_AFTER = 30.0

#: The most problems of a refused configuration that are told.
_MAX_PROBLEMS = 5


class Happenings:
    """Told by who notices something, at the moment when it is noticed."""

    def __init__(self, own_events: OwnEvents) -> None:
        self._tell = own_events.tell
        #: Since when the store fails, on time.monotonic; 0 while it does not.
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
        told["reason"] = str(last.reason)
        told["said"] = f"{last.code} {last.msg}".strip() or last.detail
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

    def changed(self, config: str, changes: Mapping[str, Sequence[str]]) -> None:
        """Another configuration is in force: its hash, and names by what has become of them."""
        self._tell(CONFIG_CHANGED, {"config": config, **changes}, mark=config)

    def refused(self, mark: str, still: str, problems: Sequence[Problem]) -> None:
        """What the file says now can't be used; `mark` is what it is known by."""
        told = {
            "still": still,
            "problems": [str(problem) for problem in problems[:_MAX_PROBLEMS]],
            "more": max(0, len(problems) - _MAX_PROBLEMS),
        }
        self._tell(CONFIG_REFUSED, told, mark=mark)

    def store_failed(self, error: StoreFailed) -> None:
        """Once it has gone on for a while."""
        now = time.monotonic()
        since = self._store_fails_since = self._store_fails_since or now
        if now - since >= STORE_TOLD_AFTER and not self._store_is_told:
            self._store_is_told = True
            began = utc(time.time() - (now - since))
            self._tell(STORE_FAILING, {"since": began, "error": str(error)})

    def store_back(self, seconds: float) -> None:
        if self._store_is_told:
            self._tell(STORE_BACK, {"seconds": round(seconds, 1)})
        self._store_fails_since, self._store_is_told = 0.0, False
