"""Whether a caller has hung up: asked for each event, and hardly ever so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Gone(Protocol):
    """Told as a future tells that it is done, which any future may do."""

    def done(self) -> bool: ...

    def add_done_callback(self, told: Callable[[Any], object], /) -> None: ...

    def remove_done_callback(self, told: Callable[[Any], object], /) -> int: ...


class HangUp:
    """A Gone that belongs to no loop, and tells of it in the moment that it happens: a future costs
    ten times as much to make."""

    __slots__ = ("_is_done", "_told")

    def __init__(self) -> None:
        self._is_done = False
        self._told: list[Callable[[Any], object]] = []

    def done(self) -> bool:
        return self._is_done

    def add_done_callback(self, told: Callable[[Any], object], /) -> None:
        """At once where it has happened."""
        if self._is_done:
            told(self)
        else:
            self._told.append(told)

    def remove_done_callback(self, told: Callable[[Any], object], /) -> int:
        """How often it was there."""
        there = len(self._told)
        self._told = [each for each in self._told if each != told]
        return there - len(self._told)

    def happens(self) -> None:
        """Once."""
        self._is_done = True
        waiting, self._told = self._told, []
        for told in waiting:
            told(self)
