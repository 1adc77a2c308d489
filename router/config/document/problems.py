"""The problems of one file: each once, sorted by place, and in bounds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from difflib import get_close_matches
from typing import NamedTuple

from router.model.errors import ConfigInvalid, Problem

#: The most problems that are kept of one file; the rest is counted.
MAX_PROBLEMS = 1_000

#: The most that a problem repeats of the file's text, in characters.
MAX_SHOWN = 64

#: The most characters that may be compared to guess names. Each costs up to 2 µs.
MAX_COMPARED = 500_000


class Spot(NamedTuple):
    """A place in a text: a line and a column from 1, in characters; both 0 for the whole file."""

    line: int
    column: int


WHOLE_FILE = Spot(0, 0)


def shown(text: str) -> str:
    """Quote a text for a problem: on one line, cut off if it is long."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)
    return f"'{escaped}'"


def did_you_mean(name: str | None) -> str:
    return f", did you mean {shown(name)}?" if name else ""


class Guesses:
    """Guesses the name that was meant, up to `MAX_COMPARED` for all files of a configuration."""

    def __init__(self) -> None:
        self._compared = 0

    def likely(self, word: str, names: Collection[str]) -> str | None:
        self._compared += len(names) * len(word)
        if self._compared > MAX_COMPARED:
            return None
        near = [name for name in names if abs(len(name) - len(word)) <= 5]
        return next(iter(get_close_matches(word, near, n=1)), None)


def _place(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column


class Problems:
    """The problems of one file. The same message at the same place is kept once. Past `most` they
    are only counted, so that no file makes an endless report."""

    def __init__(self, file: str, most: int = MAX_PROBLEMS) -> None:
        self.file = file
        self._most = most
        #: The owner of the file, once it has been read.
        self.owner = ""
        self._kept: dict[tuple[int, int, str], Problem] = {}
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, spot: Spot, path: str, message: str, *, once: bool = False) -> None:
        """Add a problem; with `once`, only the first place in the file keeps the message."""
        key = (0, 0, message) if once else (*spot, message)
        if key in self._kept or len(self._kept) < self._most:
            problem = Problem(self.file, *spot, path, message)
            self._kept[key] = min(self._kept.get(key, problem), problem, key=_place)
        else:
            self._more += 1

    def in_order(self) -> tuple[Problem, ...]:
        """Return the problems by place, after one that counts the rest."""
        noun = "problem" if self._more == 1 else "problems"
        more = f"has {self._more} more {noun} than are listed here"
        counted = [Problem(self.file, *WHOLE_FILE, "", more)] if self._more else []
        problems = sorted([*counted, *self._kept.values()])
        return tuple(replace(one, owner=self.owner) if self.owner else one for one in problems)

    def stop(self) -> ConfigInvalid:
        """Return the error to raise, with all problems."""
        return ConfigInvalid(self.in_order())
