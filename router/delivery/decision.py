"""When the reply to one request is decided: its attempts counted, and how long for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from router.delivery.target.sender import Flight
from router.net.gone import Gone
from router.net.timer import TICK, Timer


class Decision:
    """What one request waits for, counted in the moment that each attempt ends.

        required in flight ──► optional in flight ──► made
                    └── a failure, a deadline, gone ───►

    It is made once; what ends later changes nothing.
    """

    def __init__(
        self, deadlines: Deadlines, patience: float, is_worth_waiting: Callable[[], bool]
    ) -> None:
        """Once every required attempt has ended, and if it `is_worth_waiting` then, the optional
        ones have `patience` seconds more."""
        self._deadlines = deadlines
        self._patience = patience
        self._is_worth_waiting = is_worth_waiting
        #: Attempts in flight.
        self._required = self._optional = 0
        self._made: asyncio.Future[None] = deadlines.loop.create_future()

    def watch(self, flight: Flight, *, required: bool) -> None:
        """Count on an attempt that has begun."""
        if flight.is_over:
            return
        if required:
            self._required += 1
            flight.listen(self._required_ended)
        else:
            self._optional += 1
            flight.listen(self._optional_ended)

    async def made(self, until: float, gone: Gone) -> None:
        """Return once it is made: at `until` at the latest, and at once when `gone` is done."""
        self._deadlines.set(self, until)
        gone.add_done_callback(self.make)
        try:
            if not self._required:
                self._look_at_optional()
            await self._made
        finally:
            gone.remove_done_callback(self.make)
            self._deadlines.drop(self)

    def make(self, _: object = None) -> None:
        """Wait no longer."""
        if not self._made.done():
            self._made.set_result(None)

    def _required_ended(self, _: Flight) -> None:
        self._required -= 1
        if not self._required:
            self._look_at_optional()

    def _optional_ended(self, _: Flight) -> None:
        self._optional -= 1
        if not self._optional and not self._required:
            self.make()

    def _look_at_optional(self) -> None:
        """Every required attempt has ended."""
        if self._optional and self._patience and self._is_worth_waiting():
            self._deadlines.bring_forward(self, self._patience)
        else:
            self.make()


class Deadlines:
    """When decisions are made at the latest, all of them on the running loop. It rarely comes to
    that: one timer serves all."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.loop = asyncio.get_running_loop()
        self._monotonic = monotonic
        self._due: dict[Decision, float] = {}
        self._timer = Timer(self.loop, self._ring, monotonic)

    def set(self, decision: Decision, due: float) -> None:
        """Have it made at `due`."""
        self._due[decision] = due
        if due < self._timer.due:
            self._timer.set(due)

    def bring_forward(self, decision: Decision, seconds: float) -> None:
        """Have it made in so many seconds, if it is not due before that."""
        due = self._monotonic() + seconds
        if due < self._due.get(decision, -math.inf):
            self.set(decision, due)

    def drop(self, decision: Decision) -> None:
        """It is made."""
        del self._due[decision]

    def _ring(self) -> None:
        now, next_due = self._monotonic() + TICK, math.inf
        for decision, due in self._due.items():
            if due <= now:
                decision.make()
            else:
                next_due = min(next_due, due)
        self._timer.set(next_due)
