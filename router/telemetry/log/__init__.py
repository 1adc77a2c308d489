"""Log lines: one wide line per happening, for people (`console`) or for a collector (`json`)."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from typing import IO, Any, Final

from router.telemetry.log.lines import Fields, Format, Level, Lines
from router.telemetry.log.writer import LogWriter, Sums, Tap

#: How long the end of the process waits for the last lines to be written, in seconds.
LAST_LINES_WAIT: Final = 2.0


#: How a line says what had to go; quotes within texts are escaped.
_CUT: Final = b'"cut":['


class Log:
    """Writes lines to a stream. Whatever the stream does, it holds nobody up: a stream that can't
    be written to loses lines, never events, and a line says how many once there can be one.

    Some kinds of trouble are summed up where they repeat, see `SUMMED`: their line then has
    `count`, `first` and `last`, for that many more lines like it.
    """

    def __init__(
        self,
        stream: IO[str] | None = None,
        format: Format = "console",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stream` is stdout by default. One without a descriptor is written to at once."""
        stream = sys.stdout if stream is None else stream
        encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lines = Lines(format, encoding, colored=_shows_colors(stream))
        self._sums = Sums()
        #: Gets a copy of each line; None while no stream is open.
        self.tap: Tap | None = None
        #: Takes a line, and it goes nowhere else, where it returns True; None for nobody.
        self.takes: Callable[[str, Fields], bool] | None = None
        self._clock = clock
        self._out = _outlet(stream, encoding, self._tick)
        #: How many lost lines have been told of.
        self._told = 0
        atexit.register(self.close)

    @property
    def lost(self) -> int:
        """Lines that the stream did not take."""
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
        """One line. Field names are fixed words; values may come from outside. Returns it, where
        it is JSON, has all of the fields, and was not summed up. The event's body is for those
        alone who listen."""
        if self.takes is not None and self.takes(happening, fields):
            return None
        now = self._clock()
        if self._sums.is_due(now):
            self._sum_up(now)
        if self._sums.take(now, level, happening, fields):
            return None
        if self.tap is not None:
            self.tap.put(now, level, happening, fields, body)
        line = self._lines.line(now, level, happening, fields)
        self._out.put(line)
        return line if self._lines.is_json and _CUT not in line else None

    def close(self, timeout: float = LAST_LINES_WAIT) -> None:
        """Write what waits, sums included, within `timeout` seconds; later lines are lost.

        The interpreter's end does it too; only what ends by `os._exit` has to call it.
        """
        atexit.unregister(self.close)
        self._sum_up(self._clock())
        self._out.close(timeout)

    def _tick(self) -> None:
        """What there is to say besides, now that a write has ended or nothing happens."""
        now = self._clock()
        if self._sums.is_due(now):
            self._sum_up(now)
        lost = self._out.lost
        if lost > self._told and not self._out.is_failing:
            count, self._told = lost - self._told, lost
            self._out.put(self._lines.line(now, "warning", "lines_lost", {"count": count}))

    def _sum_up(self, now: float) -> None:
        stamp = self._lines.stamp
        for each in self._sums.end():
            span = {"count": each.count, "first": stamp(each.first), "last": stamp(each.last)}
            fields = {**span, **each.fields}
            self._out.put(self._lines.line(now, each.level, each.happening, fields))


def _shows_colors(stream: IO[str] | None) -> bool:
    """Whether it is a terminal, and nobody said otherwise."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):
        return False


class _Stream:
    """A stream without a descriptor, in memory say, or none at all."""

    is_failing = False

    def __init__(self, stream: IO[str] | None, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self.lost = 0

    def put(self, line: bytes) -> None:
        try:
            if self._stream is None:
                raise OSError
            self._stream.write(line.decode(self._encoding))
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    def close(self, timeout: float) -> None:
        """It has written everything."""


def _outlet(stream: IO[str] | None, encoding: str, tick: Callable[[], None]) -> LogWriter | _Stream:
    if stream is not None:
        try:
            # A descriptor of its own: nobody can close it, and let another file take its number.
            return LogWriter(os.dup(stream.fileno()), tick)
        except (AttributeError, OSError, ValueError):
            pass
    return _Stream(stream, encoding)
