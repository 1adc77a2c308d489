"""The problems of one file, collected: each once, sorted by place, and not without end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from difflib import get_close_matches

from router.model.errors import ConfigInvalid, Problem

#: The most problems that are kept of one file; the rest is counted.
MAX_PROBLEMS = 1_000

#: The most that is repeated of what the file says, in characters.
MAX_SHOWN = 64

#: How many characters may be compared to find what was meant. Each costs up to 2 µs.
MAX_COMPARED = 500_000


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a text: a line and a column from 1, in characters; both 0 for the whole file."""

    line: int
    column: int


WHOLE_FILE = Spot(0, 0)


def shown(text: str) -> str:
    """A text as problems quote it: in quotes, on one line, with an end."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)
    return f"'{escaped}'"


def did_you_mean(name: str | None) -> str:
    return f", did you mean {shown(name)}?" if name else ""


class Guesses:
    """Finds what was meant by a word, up to `MAX_COMPARED` for all files of a configuration."""

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
    """What is wrong with one file. The same thing at the same place is kept once.

    Past `most` it only counts, so that no file can make a report without end.
    """

    def __init__(self, file: str, most: int = MAX_PROBLEMS) -> None:
        self.file = file
        self._most = most
        #: Who answers for the file, once that has been read.
        self.owner = ""
        self._kept: dict[tuple[int, int, str], Problem] = {}
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, spot: Spot, path: str, message: str, *, once: bool = False) -> None:
        """`once`: of all places that this is said of, the first one in the file is kept."""
        key = (0, 0, message) if once else (spot.line, spot.column, message)
        if key in self._kept or len(self._kept) < self._most:
            problem = Problem(self.file, spot.line, spot.column, path, message)
            self._kept[key] = min(self._kept.get(key, problem), problem, key=_place)
        else:
            self._more += 1

    def in_order(self) -> tuple[Problem, ...]:
        """All of them, sorted by place; where some were only counted, that comes first."""
        problems = "problem" if self._more == 1 else "problems"
        more = f"has {self._more} more {problems} than are listed here"
        counted = [Problem(self.file, 0, 0, "", more)] if self._more else []
        found = sorted([*counted, *self._kept.values()])
        return tuple(replace(each, owner=self.owner) if self.owner else each for each in found)

    def stop(self) -> ConfigInvalid:
        """The error to raise, with all that was found."""
        return ConfigInvalid(self.in_order())
