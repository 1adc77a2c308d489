"""A matching of two lists: each item of one gets an item of the other for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def matched(sources: Sequence[S], seen: Sequence[T], may: Callable[[S, T], bool]) -> bool:
    """Return whether each source can have one of them for its own (Kuhn's algorithm)."""
    owner: dict[int, S] = {}

    def place(source: S, tried: set[int]) -> bool:
        for number, each in enumerate(seen):
            if number not in tried and may(source, each):
                tried.add(number)
                if number not in owner or place(owner[number], tried):
                    owner[number] = source
                    return True
        return False

    return all(place(source, set()) for source in sources)
