"""Copies of lines for whoever listens: references, made into lines off the path of events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypedDict

from router.telemetry.log.console import Fields, Level
from router.telemetry.log.lines import Lines, with_payload

#: How many lines wait to be asked for; the older ones are dropped.
TAP_LINES = 64

#: The most bytes of bodies that wait with them. A body that finds no room is left out of its line.
TAP_BODIES = 1024 * 1024

#: Nobody listens any more who has not asked for so many seconds.
TAP_LASTS = 5.0


class Heard(TypedDict):
    """What has been written since it was asked for last."""

    #: Of JSON.
    lines: list[str]
    #: How many lines more there were.
    dropped: int


class _Line(NamedTuple):
    at: float
    level: Level
    happening: str
    #: Not changed any more.
    fields: Fields
    body: bytes


class Tap:
    """It lives for as long as it is asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked = clock()
        self._bodies = False
        self._waiting: deque[_Line] = deque()
        self._size = self._dropped = 0
        self._lines = Lines("json")

    @property
    def is_over(self) -> bool:
        return self._clock() - self._asked > TAP_LASTS

    def put(self, at: float, level: Level, happening: str, fields: Fields, body: bytes) -> None:
        """Returns at once, whoever listens."""
        kept = body if self._bodies and self._size + len(body) <= TAP_BODIES else b""
        self._size += len(kept)
        self._waiting.append(_Line(at, level, happening, fields, kept))
        if len(self._waiting) > TAP_LINES:
            self._size -= len(self._waiting.popleft().body)
            self._dropped += 1

    def take(self, *, bodies: bool) -> Heard:
        """What waits; `bodies` is for what comes from now on."""
        self._asked, self._bodies = self._clock(), bodies
        waiting, self._waiting = self._waiting, deque()
        dropped, self._dropped, self._size = self._dropped, 0, 0
        return Heard(lines=[self._line(each) for each in waiting], dropped=dropped)

    def _line(self, each: _Line) -> str:
        line = self._lines.line(each.at, each.level, each.happening, each.fields)
        return (b"".join(with_payload(line, each.body)) if each.body else line).decode("ascii")
