"""Output of commands: results on stdout, messages on stderr, nothing that a terminal obeys."""

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
    """Print a line of the result at once, also to a pipe or a file."""
    print(printable(text), flush=True)


def say_lines(texts: Iterable[str]) -> None:
    for text in texts:
        say(text)


def say_json(value: Any) -> None:
    """Print one line of JSON, in which every script stays readable."""
    say(json.dumps(value, ensure_ascii=False))


def say_as(format: str, values: Iterable[Any], texts: Iterable[str]) -> None:
    """Print the result in the format asked for: these values as JSON, a line each, or these texts.
    The others are not evaluated."""
    if format == "json":
        for value in values:
            say_json(value)
    else:
        say_lines(texts)


def note(text: str) -> None:
    """Print a message. If that fails, the command goes on."""
    with contextlib.suppress(OSError):
        print(f"{NAME}: {printable(text)}", file=sys.stderr, flush=True)


class Progress:
    """Reports on stderr how far something slow is."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._reported_at = time.monotonic()

    def __call__(self, how_far: str) -> None:
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_EVERY:
            self._reported_at = now
            note(f"{self._doing} {how_far}")


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
    """Round to a tenth, which is as precise as one look at the clock."""
    return round(seconds * 1000, 1)


def prepare_streams() -> None:
    """Make sure that all three streams are open, and that no locale makes a text unprintable.

    A closed one becomes /dev/null: else a socket would get its number, and the output. A missing
    `sys.stdin` stays None, so that a command that wants to read it can say so.
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
    """Drop what stdout still holds: it can't be written any more, and must not fail at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
