"""For how long a store was away, as those see it who ask it again and again. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Outage:
    """Begins with a failure, and is over once each of the rounds has gone well since: one that
    only reads may go well all along. Times are seconds on any steady clock."""

    def __init__(self, rounds: Iterable[str], now: float) -> None:
        #: When each round last went well. What goes well in an outage does not count.
        self._well = dict.fromkeys(rounds, now)
        #: The rounds that have to go well until it is over; none while there is no outage.
        self._owed: set[str] = set()

    def begin(self) -> None:
        """Something failed; also while it lasts."""
        self._owed = set(self._well)

    def went_well(self, name: str, now: float) -> float | None:
        """A round went well: how long the outage was that is over with it, if one is."""
        if not self._owed:
            self._well[name] = now
            return None
        self._owed.discard(name)
        if self._owed:
            return None
        seconds = now - min(self._well.values())
        self._well = dict.fromkeys(self._well, now)
        return seconds
