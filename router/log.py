"""Log lines: one wide line per happening, for people (`console`) or for a collector (`json`)."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any, Literal

Format = Literal["console", "json"]
Level = Literal["info", "warning", "error"]


class Log:
    """Writes lines to a stream. A stream that can't be written to loses lines, never events."""

    def __init__(self, stream: IO[str] | None = None, format: Format = "console") -> None:
        self._stream = sys.stdout if stream is None else stream
        self._render = _json_line if format == "json" else _console_line
        #: Lines that the stream did not take.
        self.lost = 0

    def info(self, happening: str, **fields: Any) -> None:
        self.write("info", happening, fields)

    def warning(self, happening: str, **fields: Any) -> None:
        self.write("warning", happening, fields)

    def error(self, happening: str, **fields: Any) -> None:
        self.write("error", happening, fields)

    def write(self, level: Level, happening: str, fields: Mapping[str, Any]) -> None:
        """One line. Field names are fixed words; values may come from outside."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            self._stream.write(self._render(now, level, happening, fields) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1


class LibraryLines(logging.Handler):
    """Carries what libraries log at `warning` and above into a Log; tracebacks stay out of it."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        # Only the first line: uvicorn puts tracebacks into the message.
        first, *_ = record.getMessage().splitlines() or [""]
        self._log.write(level, "library", {"library": record.name, "message": first})


def take_library_lines(log: Log) -> None:
    """Send the standard library's logging, and so every library's, into `log` alone."""
    logging.basicConfig(handlers=[LibraryLines(log)], level=logging.WARNING, force=True)


def _json_line(now: str, level: Level, happening: str, fields: Mapping[str, Any]) -> str:
    line = {"time": now, "level": level, "happening": happening, **fields}
    return json.dumps(line, ensure_ascii=True, separators=(",", ":"), default=str)


def _console_line(now: str, level: Level, happening: str, fields: Mapping[str, Any]) -> str:
    shown = " ".join(f"{name}={_value(value)}" for name, value in fields.items() if value != "")
    return f"{now} {level:<7} {happening} {shown}"


def _value(value: Any) -> str:
    """A value on one line and without control sequences, quoted where it has blanks."""
    if isinstance(value, Mapping):
        return "{" + " ".join(f"{_value(k)}={_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(member) for member in value) + "]"
    text = str(value)
    if not text or any(c in ' ="{}[],' or not c.isprintable() for c in text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{printable(escaped)}"'
    return text


def printable(text: str) -> str:
    r"""`text` with control and invisible characters as `\u001b`; in JSON it means the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    units = c.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
