"""The log: one wide line per happening, for people (`console`) or for a collector (`json`)."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from typing import IO, Any, Final

from router.telemetry.log.lines import Fields, Format, Level, Lines, RawLine
from router.telemetry.log.writer import LogWriter, Sums, Tap

#: Seconds that the end of the process waits for the last lines to be written.
LAST_LINES_WAIT: Final = 2.0

#: In a line with fields that were cut. Quotes within texts are escaped.
_CUT: Final = b'"cut":['


class Log:
    """Writes lines to a stream without ever blocking its callers. Lines that the stream does not
    take are lost, and later a line says how many.

    Repeated lines of some happenings (`SUMMED`) are summed up in one line, which has their number
    as `count`, and the times of the `first` and the `last` of them.
    """

    def __init__(
        self,
        stream: IO[str] | None = None,
        format: Format = "console",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stream` is stdout by default. A stream without a descriptor is written to at once."""
        stream = sys.stdout if stream is None else stream
        encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lines, self._sums = Lines(format, encoding), Sums()
        #: Gets a copy of each line, if set.
        self.tap: Tap | None = None
        #: Takes lines away, if set: a line for which it returns True goes nowhere else.
        self.takes: Callable[[str, Fields], bool] | None = None
        self._clock = clock
        self._out = LogWriter(stream, encoding, self._tick)
        #: The number of lost lines reported so far.
        self._reported = 0
        atexit.register(self.close)

    @property
    def lost(self) -> int:
        return self._out.lost

    def info(self, happening: str, **fields: Any) -> None:
        self.write("info", happening, fields)

    def warning(self, happening: str, **fields: Any) -> None:
        self.write("warning", happening, fields)

    def error(self, happening: str, **fields: Any) -> None:
        self.write("error", happening, fields)

    def write(
        self, level: Level, happening: str, fields: Fields, body: bytes = b""
    ) -> bytes | None:
        """Write one line. Field names are fixed words; values may come from outside. The event's
        body is for the tap only. Return the line if it is JSON, complete, and was not summed up."""
        if self.takes is not None and self.takes(happening, fields):
            return None
        now = self._clock()
        self._sum_up(now)
        if self._sums.take(now, level, happening, fields):
            return None
        if self.tap is not None:
            self.tap.put(RawLine(now, level, happening, fields), body)
        line = self._lines.line(now, level, happening, fields)
        self._out.put(line)
        return line if self._lines.is_json and _CUT not in line else None

    def close(self, timeout: float = LAST_LINES_WAIT) -> None:
        """Write the waiting lines and sums within `timeout` seconds; later lines are lost. Called
        at the interpreter's exit; before `os._exit` it has to be called explicitly."""
        atexit.unregister(self.close)
        self._sum_up(self._clock(), at_end=True)
        self._out.close(timeout)

    def _tick(self) -> None:
        """Write the sums of a window that is over, and the number of lost lines."""
        now = self._clock()
        self._sum_up(now)
        lost = self._out.lost
        if lost > self._reported and not self._out.is_failing:
            count, self._reported = lost - self._reported, lost
            self._out.put(self._lines.line(now, "warning", "lines_lost", {"count": count}))

    def _sum_up(self, now: float, *, at_end: bool = False) -> None:
        if not at_end and not self._sums.is_due(now):
            return
        stamp = self._lines.stamp
        for kind in self._sums.end():
            span = {"count": kind.count, "first": stamp(kind.first), "last": stamp(kind.last)}
            line = self._lines.line(now, kind.level, kind.happening, {**span, **kind.fields})
            self._out.put(line)
