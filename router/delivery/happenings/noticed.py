"""What is noticed of the router, as the happenings that it makes, each with its detail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

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
    HappeningKind,
)
from router.delivery.target.gate import Failing
from router.model.event import OWN_KEYS
from router.routing.target import Target
from router.store.promises import StoreFailed
from router.telemetry.log.lines import utc

#: How long the store has to fail until it is told, in seconds.
STORE_TOLD_AFTER = 30.0


class Tell(Protocol):
    """As OwnEvents does."""

    def __call__(
        self, kind: HappeningKind, detail: Mapping[str, Any], about: str = "", mark: str = "", /
    ) -> None: ...


class Happenings:
    """Told by who notices something, at the moment when it is noticed."""

    def __init__(self, tell: Tell, monotonic: Callable[[], float] = time.monotonic) -> None:
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
