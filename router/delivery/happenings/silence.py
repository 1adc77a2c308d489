"""Whether events come: what all the processes that share a store have noted together."""

from __future__ import annotations

import time
from dataclasses import dataclass

from router.store.promises import Notice, Store
from router.telemetry.metrics import Metrics

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
