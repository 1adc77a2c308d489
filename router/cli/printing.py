"""What commands print: results on stdout, messages on stderr, nothing a terminal would obey."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from router.telemetry.log.lines import printable

NAME = "ebaas-router"

#: Seconds until a note says how far something is, or that a router has not answered; and between
#: such notes.
PROGRESS_EVERY = 2.0


def say(text: str) -> None:
    """A result, one line, at once: also where stdout is a pipe or a file."""
    print(printable(text), flush=True)


def say_lines(texts: Iterable[str]) -> None:
    """A result of several, each at once."""
    for text in texts:
        say(text)


def say_json(value: Any) -> None:
    """A result as one line of JSON, in which every script stays readable."""
    say(json.dumps(value, ensure_ascii=False))


def say_as(format: str, values: Iterable[Any], texts: Iterable[str]) -> None:
    """A result in the format asked for: as JSON these values, a line each, else these texts. The
    others are not looked at."""
    if format == "json":
        for value in values:
            say_json(value)
    else:
        say_lines(texts)


def note(text: str) -> None:
    """A message, one line, behind the program's name. No message is worth a failure of its own."""
    with contextlib.suppress(OSError):
        print(f"{NAME}: {printable(text)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def note_while_slow(name: str) -> Iterator[None]:
    """Note every two seconds that `name` has not answered, until the block ends."""
    over, began = threading.Event(), time.monotonic()

    def note_each() -> None:
        while not over.wait(PROGRESS_EVERY):
            note(f"{name} has not answered for {time.monotonic() - began:.0f} s")

    threading.Thread(target=note_each, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def milliseconds(seconds: float) -> float:
    """To a tenth, which is as good as one look at the clock."""
    return round(seconds * 1000, 1)


def prepare_streams() -> None:
    """Have all three, and let no locale make a reply unprintable: what its encoding lacks is
    escaped."""
    _fill_gaps()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _fill_gaps() -> None:
    """/dev/null for what was closed at the start: a socket that came to its number would get what
    is printed. A stdin that is missing stays None, so that whoever wants to read it can say so."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - till the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def flush() -> None:
    """Meet a broken pipe or a full disk now, not when the interpreter ends."""
    sys.stdout.flush()


def abandon_stdout() -> None:
    """Stdout can't be written to any more: what it still holds must not complain at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
