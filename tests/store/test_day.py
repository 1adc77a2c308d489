"""The real schedules, of a day, and clocks that jump: a real `serve` under libfaketime.

It runs with LONG=1, which `make day` sets. The wall clock alone is libfaketime's, and is put
forward to whatever is due next; what the router measures (timeouts, deadlines) it does by the
monotonic clock, which is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest

from router.contract.schedule import PLATFORM
from router.delivery.queue import JITTER
from tests.support.command import PATIENCE, ROOT
from tests.support.disks import quick_folder
from tests.support.effort import LONG
from tests.support.rows import query
from tests.support.serving import always, serving, states, target, unsettled
from tests.support.waiting import wait_until

#: The machine's own, or the one that scripts/libfaketime has fetched.
LIBRARY = next(
    (
        library
        for folder in ("/usr/lib", ROOT / ".tools/libfaketime/usr/lib")
        for library in Path(folder).glob("*/faketime/libfaketimeMT.so.1")
    ),
    None,
)

pytestmark = [
    pytest.mark.skipif(not LONG, reason="a long one: make day"),
    pytest.mark.skipif(LIBRARY is None, reason="no libfaketime; scripts/libfaketime fetches it"),
]

#: How late the router or the test may be on a slow machine, in seconds.
LATE = PATIENCE

HOUR = 3600.0


class Clock:
    """The wall clock of the routers that run with `environ`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._ahead = 0.0
        self.jump(0.0)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    @property
    def now(self) -> float:
        return time.time() + self._ahead

    def jump(self, seconds: float) -> None:
        self._ahead += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._ahead:+.3f}\n")
        new.replace(self._file)

    def forward_to(self, at: float) -> None:
        self.jump(max(at - self.now, 0.0))


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def clock(folder: Path) -> Clock:
    return Clock(folder)


def queued(store: Path) -> tuple[float, int] | None:
    """Return the time and the retries of the one queued delivery, None once it is settled or dead.
    Wait while it is being sent."""
    found: list[tuple[float, int, str]] = []

    def rests() -> bool:
        sql = "SELECT due_at, retries, lease FROM deliveries WHERE state = 'queued'"
        found[:] = query(store, sql)
        return all(lease == "" for *_, lease in found)

    wait_until(rests)
    return found[0][:2] if found else None


class Failing:
    """A target's answers: always 500, and when each was given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.times: list[float] = []

    def __call__(self, *_: str) -> str:
        self.times.append(self._clock.now)
        return "500"

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.times)]


def test_an_event_lives_through_its_day(folder: Path, clock: Clock) -> None:
    """EBaaS's 21 requests in 14 hours reach only the failing target, all under one id. The queue
    makes its own 20 retries at its waits. In the end there are dead letters."""
    store = folder / "store.db"
    of_weak, of_aside = Failing(clock), Failing(clock)
    with (
        target() as strong,
        target(of_weak) as weak,
        target(of_aside) as aside,
        serving(
            folder, {"strong": strong, "weak": weak}, {"aside": aside}, environ=clock.environ
        ) as router,
    ):
        assert router.post("day") == "500"
        for wait in PLATFORM.all_waits():
            retry_until(clock, store, clock.now + wait)
            assert router.post("day") == "500"
        retry_until(clock, store, inf)
        router.wait_for(lambda: len(router.lines("event")) == 21)
        assert [line["request"] for line in router.lines("event")] == [*range(1, 22)]
        router.wait_for(lambda: [each["target"] for each in router.lines("dead_letter")])
    assert (len(strong.got), len(weak.got), len(aside.got)) == (1, 21, 21)
    assert len({got.webhook_id for got in (*strong.got, *weak.got, *aside.got)}) == 1
    assert states(store)["day"] == {"strong": "acknowledged", "weak": "dead", "aside": "dead"}
    for gap, wait in zip(of_weak.gaps, PLATFORM.all_waits(), strict=True):
        assert wait - 0.1 < gap < wait + LATE
    for gap, wait in zip(of_aside.gaps, PLATFORM.all_waits(), strict=True):
        assert wait - 0.1 < gap < wait * (1 + JITTER) + LATE


def retry_until(clock: Clock, store: Path, at: float) -> None:
    """Let time pass until then, or until nothing is queued; stop at each retry of the queue."""
    while (next_one := queued(store)) is not None and next_one[0] < at:
        clock.forward_to(next_one[0])
        wait_until(lambda before=next_one: queued(store) != before)  # type: ignore[misc]
    if at < inf:
        clock.forward_to(at)


def test_what_the_caller_gives_up_is_kept(folder: Path, clock: Clock) -> None:
    """A caller that stops after three requests leaves a record. When its whole schedule is over,
    and not before, the awaited delivery is a dead letter."""
    with (
        target(always("500")) as weak,
        serving(folder, {"weak": weak}, environ=clock.environ) as router,
    ):
        for wait in PLATFORM.waits[:3]:
            assert router.post("given up") == "500"
            clock.jump(wait)
        clock.jump(PLATFORM.total() - sum(PLATFORM.waits[:3]) - LATE)
        assert router.post("another") == "500"
        assert states(folder / "store.db")["given up"] == {"weak": "awaiting"}
        # One `reply_within` for each request, and the grace.
        clock.jump(LATE + 21 * 8 + 60)
        router.wait_for(lambda: router.lines("dead_letter"))
        [line] = router.lines("dead_letter")
        assert (line["level"], line["target"], line["requests"]) == ("error", "weak", 3)
        assert states(folder / "store.db")["given up"] == {"weak": "dead"}
        assert states(folder / "store.db")["another"] == {"weak": "awaiting"}


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_clock_that_jumps_an_hour(jump: float, folder: Path, clock: Clock) -> None:
    """Nothing is lost and no 000 is false. After a jump forward, acknowledgements have expired, the
    retry is delivered in full as a new event, and recovery delivers the first one. After a jump
    back, the record is still claimed, and queued deliveries wait until the clock has caught up."""
    healed: list[bool] = []

    def heals(*_: str) -> str:
        return "000" if healed else "500"

    with (
        target() as strong,
        target(heals) as weak,
        target(heals) as aside,
        serving(
            folder,
            {"strong": strong, "weak": weak},
            {"aside": aside},
            environ=clock.environ,
        ) as router,
    ):
        assert router.post("fails") == "500"
        clock.jump(jump)
        assert router.post("fails") == "500"
        healed.append(True)
        assert router.post("fails") == "000"
        assert router.post("healthy") == "000"
        assert len(strong.of("fails")) == (2 if jump > 0 else 1)
        clock.jump(HOUR + LATE)
        wait_until(lambda: not unsettled(folder / "store.db"))
        assert aside.of("fails")[-1].code == "000"
        acknowledged = [got.webhook_id for got in weak.of("fails") if got.code == "000"]
        assert len(acknowledged) == len({*acknowledged}) == (2 if jump > 0 else 1)
