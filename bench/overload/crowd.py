"""Callers who come when they come: python -m bench.overload.crowd PORT RATExSECONDS…

Events arrive evenly at each rate in turn, whether or not earlier ones are answered, on kept
connections, and on new ones where none is free. Prints what became of each, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from bench.caller import Caller, event

#: Events are for so many targets in turn.
TARGETS = 4

#: No more unanswered callers than that: what is due beyond it is `(left out)`.
MOST = 2000


class Came(NamedTuple):
    """One event: when it was due, in seconds; the reply's code, or what went wrong, in brackets;
    and the seconds from then to the reply."""

    due: float
    code: str
    seconds: float


class Crowd:
    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Caller] = []
        self._out = 0
        self.came: list[Came] = []

    async def come(self, schedule: Sequence[tuple[float, float]]) -> None:
        """At each rate for so many seconds, in turn; returns when every reply is in."""
        start = time.monotonic()
        due, number = 0.0, 0
        async with asyncio.TaskGroup() as group:
            for rate, seconds in schedule:
                until = due + seconds
                while due < until:
                    await asyncio.sleep(max(0.0, start + due - time.monotonic()))
                    group.create_task(self._send(number, start, due))
                    number += 1
                    due += 1 / rate
        for caller in self._idle:
            caller.close()

    async def _send(self, number: int, start: float, due: float) -> None:
        if self._out >= MOST:
            self.came.append(Came(due, "(left out)", 0.0))
            return
        self._out += 1
        caller = self._idle.pop() if self._idle else Caller(self._port)
        code = await caller.post(event(f"t{number % TARGETS}", f"{time.time_ns()}"))
        self._idle.append(caller)
        self._out -= 1
        self.came.append(Came(due, code, time.monotonic() - start - due))


def main() -> None:
    port, *steps = sys.argv[1:]
    schedule = [(float(rate), float(seconds)) for rate, seconds in (s.split("x") for s in steps)]
    crowd = Crowd(int(port))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(crowd.come(schedule))
    print(json.dumps(crowd.came))


if __name__ == "__main__":
    main()
