"""Collecting what is wrong with one file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from router.config.document.lookalikes import hint
from router.config.document.nodes import ScalarNode
from router.model.errors import ConfigInvalid, Problem

#: The most problems that are kept of one file; the rest is counted.
MAX_PROBLEMS = 1_000

#: The most that is repeated of what the file says, in characters.
MAX_SHOWN = 64


class Place(Protocol):
    """Anything with a line and a column, from 1; both 0 for the file as a whole."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Spot:
    """A place that is no node's."""

    line: int
    column: int


WHOLE_FILE = Spot(0, 0)


def shown(text: str) -> str:
    """A text as problems quote it: in quotes, on one line, with an end."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)
    return f"'{escaped}'"


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

    def add(self, place: Place, path: str, message: str, *, once: bool = False) -> None:
        """`once`: of all places that this is said of, the first one in the file is kept."""
        key = (0, 0, message) if once else (place.line, place.column, message)
        if key in self._kept or len(self._kept) < self._most:
            told = message + (hint(place) if isinstance(place, ScalarNode) else "")
            problem = Problem(self.file, place.line, place.column, path, told)
            self._kept[key] = min(self._kept.get(key, problem), problem, key=_place)
        else:
            self._more += 1

    def in_order(self) -> tuple[Problem, ...]:
        """All of them, sorted by place; where some were only counted, that comes first."""
        problems = "problem" if self._more == 1 else "problems"
        more = f"has {self._more} more {problems} than are listed here"
        counted = [Problem(self.file, 0, 0, "", more)] if self._more else []
        found = sorted([*counted, *self._kept.values()])
        return (
            tuple(replace(each, owner=self.owner) for each in found) if self.owner else tuple(found)
        )

    def stop(self) -> ConfigInvalid:
        """The error to raise, with all that was found."""
        return ConfigInvalid(self.in_order())
