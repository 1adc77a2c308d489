"""Marks on a scale from 0 to 1: which one a level has passed, up or down. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: In rising order. From half on there is something to be done; the others say that nobody has.
MARKS = (0.5, 0.75, 0.9)

#: How far a level has to fall below a mark until that is over, so that one which swings about a
#: mark is told once.
SLACK = 0.05


@dataclass(frozen=True, slots=True)
class Passed:
    """A mark that a level has passed: upwards the highest one, downwards the lowest."""

    mark: float
    rising: bool


class Alarm:
    """Follows one level; says when it passes a mark, and nothing while it stays between two."""

    def __init__(self) -> None:
        #: How many marks, from the lowest, are passed.
        self._passed = 0

    def look(self, level: float) -> Passed | None:
        """What the new level has passed; after a start, what it is above already."""
        before = self._passed
        above = sum(level >= mark for mark in MARKS)
        not_below = sum(level > mark - SLACK for mark in MARKS)
        self._passed = max(above, min(before, not_below))
        if self._passed > before:
            return Passed(MARKS[self._passed - 1], rising=True)
        if self._passed < before:
            return Passed(MARKS[self._passed], rising=False)
        return None
