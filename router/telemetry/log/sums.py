"""Repeated trouble, summed up: the first few lines of a kind are written, the rest are counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from router.model.event import FIELDS
from router.telemetry.log.console import Fields, Level

#: The happenings that are summed up, and the fields that make two lines of one kind. All else is
#: written line by line: what becomes of an event, above all.
SUMMED: Final[dict[str, tuple[str, ...]]] = {
    "refused": ("code", "why"),
    "hung_up": (),
    "unmatched": ("code", *FIELDS),
    "lost": ("target", "owner"),
    "breaker": ("target", "owner", "state"),
    "failing": ("target", "owner", "reason"),
    "recovered": ("target", "owner"),
    "store": ("error",),
    "store_back": (),
    "fault": ("at",),
    "loop_lag": (),
    "library": ("library", "message", "at"),
}

#: How long lines are counted before their sum is written, in seconds.
WINDOW: Final = 60.0

#: How many lines of one kind a window has before they are counted.
FIRST: Final = 5

#: How many kinds of one happening a window tells apart; what comes beyond is one kind more.
KINDS: Final = 50

#: The longest text that tells two kinds apart, in characters.
_MAX_KEY: Final = 256


@dataclass(slots=True)
class Sum:
    """The lines of one kind in one window. Not frozen: it grows."""

    level: Level
    happening: str
    #: What the lines have in common.
    fields: dict[str, Any]
    #: How many may still be written as they are.
    left: int
    count: int = 0
    #: When the first and the last of the counted lines came; Unix time, in seconds.
    first: float = 0.0
    last: float = 0.0


class Sums:
    """What one window has of each kind. It may be used by several threads, and within itself."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, with nothing counted."""
        # Re-entrant: what the garbage collector runs may log, in the midst of anything.
        self._lock = threading.RLock()
        self._sums: dict[tuple[str, ...], Sum] = {}
        self._kinds: Counter[str] = Counter()
        #: The window that has begun, if any; Unix time, in seconds.
        self._start = self._end = 0.0

    def take(self, now: float, level: Level, happening: str, fields: Fields) -> bool:
        """Whether the line is counted, and so not to be written."""
        names = SUMMED.get(happening)
        if names is None:
            return False
        with self._lock:
            if not self._sums:
                self._start, self._end = now, now + WINDOW
            each = self._sum(level, happening, {n: fields[n] for n in names if n in fields})
            if each.left > 0:
                each.left -= 1
                return False
            each.first = each.first or now
            each.last = now
            each.count += 1
            return True

    def _sum(self, level: Level, happening: str, common: dict[str, Any]) -> Sum:
        key = (happening, *(str(value)[:_MAX_KEY] for value in common.values()))
        found = self._sums.get(key)
        if found is None and self._kinds[happening] >= KINDS:
            key, common = (happening, "", "others"), {"others": True}
            found = self._sums.get(key)
        if found is None:
            self._kinds[happening] += 1
            common = {n: v[:_MAX_KEY] if isinstance(v, str) else v for n, v in common.items()}
            left = 0 if "others" in common else FIRST
            found = self._sums[key] = Sum(level, happening, common, left)
        return found

    def is_due(self, now: float) -> bool:
        """Whether a window is over: also when the clock was set back."""
        return self._end > 0 and not self._start <= now < self._end

    def end(self) -> Iterator[Sum]:
        """End the window: what it has counted, each kind once."""
        with self._lock:
            sums = self._sums.values()
            self._sums, self._kinds = {}, Counter()
            self._start = self._end = 0.0
        return (each for each in sums if each.count > 0)
