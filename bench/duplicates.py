"""What targets get twice from several nodes: python -m bench.duplicates [NODES EVENTS]

Real routers on one PostgreSQL server, a caller that sends each request to any of them and retries
by the schedule, and three targets: one that is well, one that fails for the first part of the time,
and one that now and then answers after its timeout. Counted are events that a target has
acknowledged more than once, by the cause that the router's own log gives: the `cause` of the later
request's line, or `late` where an earlier answer came too late.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.numbers import numbers
from tests.support import postgres
from tests.support.serving import Serving, Target, serving, target

#: Events in flight at a time.
CALLERS = 16

#: The part of the events during which the second target fails.
FAILING = 0.4

#: How seldom an answer comes after its timeout, and after how long, in seconds.
SELDOM, TOO_LATE = 50, 1.5

WAITS = (0.2, 0.5, 1.0)

_TOP: dict[str, Any] = {
    "ebaas": {"reply_within": "3s", "retries": 20, "waits": ["200ms", "500ms", "1s"]},
    "defaults": {"timeout": "1s"},
}


class Weather:
    """What the targets answer."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._asked = 0
        self.begun = 0
        #: Events whose answer came too late.
        self.late: set[str] = set()

    def fails(self, *_: str) -> str:
        return "500" if self.begun < self._events * FAILING else "000"

    def dawdles(self, name: str, _: str) -> str:
        with self._lock:
            self._asked += 1
            late = self._asked % SELDOM == 0
        if late:
            self.late.add(name)
            time.sleep(TOO_LATE)
        return "000"


def play(routers: list[Serving], weather: Weather, name: str) -> None:
    """EBaaS, with one event."""
    weather.begun += 1
    for number in range(21):
        if random.choice(routers).post(name) == "000":
            return
        time.sleep(WAITS[min(number, len(WAITS) - 1)])


def causes(routers: list[Serving], targets: dict[str, Target], weather: Weather) -> Counter[str]:
    """Each acknowledgement beyond the first, and why it came to that."""
    said = {
        line["event_id"]: line["cause"]
        for router in routers
        for line in router.lines("event")
        if "cause" in line
    }
    found: Counter[str] = Counter()
    for each in targets.values():
        seen: set[str] = set()
        for got in (one for one in each.got if one.code == "000"):
            if got.event in seen:
                late = got.event in weather.late
                found[said.get(got.webhook_id, "late" if late else "other_process")] += 1
            seen.add(got.event)
    return found


def measure(nodes: int, events: int) -> None:
    weather = Weather(events)
    codes: dict[str, Callable[[str, str], str]] = {
        "steady": lambda *_: "000",
        "flaky": weather.fails,
        "slow": weather.dawdles,
    }
    with ExitStack() as stack:
        enter = stack.enter_context
        database = enter(enter(postgres.running()).database())
        targets = {name: enter(target(code)) for name, code in codes.items()}
        routers = []
        for number in range(nodes):
            folder = Path(enter(TemporaryDirectory())) / str(number)
            folder.mkdir()
            routers.append(enter(serving(folder, targets, store=database, **_TOP)))
        with ThreadPoolExecutor(CALLERS) as pool:
            for n in range(events):
                pool.submit(play, routers, weather, f"event-{n}")
        time.sleep(TOO_LATE)  # what is late is over, and told
        found = causes(routers, targets, weather)
        requests = sum(len(router.lines("event")) for router in routers)
        attempts = sum(len(each.got) for each in targets.values())
    print(f"{nodes} nodes: {events} events, {requests} requests, {attempts} attempts")
    print(f"  acknowledged more than once: {sum(found.values())}", dict(found))


if __name__ == "__main__":
    measure(*numbers("duplicates", __doc__, nodes=2, events=1_000))
