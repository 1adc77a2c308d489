"""Output of commands: results on stdout, messages on stderr, nothing that a terminal obeys.

Also columns, counts, ages and times.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from unicodedata import combining, east_asian_width

from router.telemetry.log.lines import printable

NAME = "ebaas-router"

#: Seconds until the first note about slow work, and between two such notes.
PROGRESS_EVERY = 2.0


def say(*texts: str) -> None:
    """Print lines of the result at once, also to a pipe or a file."""
    for text in texts:
        print(printable(text), flush=True)


def say_as(format: str, values: Iterable[Any], texts: Iterable[str]) -> None:
    """Print the values as JSON, one per line, or else the texts. The others are not evaluated. In
    this JSON every script stays readable."""
    if format == "json":
        texts = (json.dumps(value, ensure_ascii=False) for value in values)
    for text in texts:
        say(text)


def note(text: str) -> None:
    """Print a message. If that fails, the command goes on."""
    with contextlib.suppress(OSError):
        print(f"{NAME}: {printable(text)}", file=sys.stderr, flush=True)


class Progress:
    """Reports the progress of slow work on stderr."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._reported_at = time.monotonic()

    def __call__(self, progress: str) -> None:
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_EVERY:
            self._reported_at = now
            note(f"{self._doing} {progress}")


@contextlib.contextmanager
def note_while_slow(name: str) -> Iterator[None]:
    """Note every two seconds that `name` has not answered, until the block ends."""
    over, began = threading.Event(), time.monotonic()

    def repeat() -> None:
        while not over.wait(PROGRESS_EVERY):
            note(f"{name} has not answered for {time.monotonic() - began:.0f} s")

    threading.Thread(target=repeat, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def prepare_streams() -> None:
    """Make sure that all three streams are open, and that no locale makes a text unprintable.

    A closed one becomes /dev/null: otherwise a socket would get its number, and the output. A
    missing `sys.stdin` stays None, so that a command that wants to read it can say so.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - until the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Drop the unwritten output: it cannot be written any more, and must not fail at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


# Columns and lists.

#: The widest column, in cells. A longer text does not move all the others.
_WIDEST = 40

#: The most texts of a list that are shown.
_FEW = 5


def columns(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[str]:
    """Yield lines with aligned cells; the last column is not padded."""
    widths = [
        max((width(cell) for cell in column if width(cell) <= _WIDEST), default=0)
        for column in zip(*(row[:-1] for row in rows), strict=True)
    ]
    for row in rows:
        cells = [padded(cell, size) for cell, size in zip(row, widths, strict=False)]
        yield " " * indent + "  ".join([*cells, row[-1]]).rstrip()


def width(text: str) -> int:
    """Return the number of cells in a terminal."""
    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in printable(text))


def padded(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))


def clipped(text: str, cells: int) -> str:
    """Cut a text to so many cells, with `…` at the end if something is left out."""
    if width(text) <= cells:
        return text
    while width(text) > cells - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


def few(texts: Sequence[str], join: str = ", ") -> str:
    """Join the first texts, with the number of the others."""
    left = len(texts) - _FEW
    return join.join([*texts[:_FEW], f"{left:,} more"] if left > 0 else texts)


def quoted(names: Sequence[str]) -> str:
    """Join names that may have blanks and commas in them."""
    from router.config.document import shown

    return few([shown(name) for name in names])


def counted(count: int, noun: str) -> str:
    """Return `1 route`, `2 routes`, `2 deliveries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


#: By the trigger of a recovery.
_TRIGGERS = {
    "acknowledged": "it acknowledged",
    "breaker_closed": "its breaker closed",
    "pause_ended": "its pause ended",
    "operator": "a person asked",
}


def format_recovery(recovery: Mapping[str, Any]) -> str:
    """Describe the recovery of a target in progress."""
    why = _TRIGGERS.get(recovery["trigger"], recovery["trigger"])
    return f"recovering: {recovery['left']:,} left, {recovery['per_second']:g}/s, since {why}"


# Times.

#: A retry is overdue if it is late by more than this, in seconds.
_PROMPT = 5.0

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def milliseconds(seconds: float) -> float:
    """Round to a tenth, the precision of one look at the clock."""
    return round(seconds * 1000, 1)


def age(seconds: float) -> str:
    """Return `40s`, `2h 5m`, `3d 4h`: the two largest units."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for unit, size in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join([part for part in parts[:2] if part[0] != "0"]) or "0s"


def seconds(at: str) -> float:
    """Return the Unix time of a time in JSON."""
    return datetime.fromisoformat(at).timestamp()


def since(at: str, now: float) -> str:
    return age(now - seconds(at))


def when(at: str, now: float) -> str:
    """Return the time until `at`, or the time since it if it is overdue."""
    left = seconds(at) - now
    if left > 0:
        return f"in {age(left)}"
    return "now" if left > -_PROMPT else f"overdue by {age(-left)}"
