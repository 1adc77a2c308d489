"""Power cuts: a real `serve` on a real file system that loses what was not made durable.

It runs with LONG=1, which `make power-cut` sets; ROUNDS=25 makes that many cuts.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from random import Random

import pytest

from router.delivery.queue import LEASE_MARGIN
from tests.store.faults import three_targets
from tests.support.command import PATIENCE
from tests.support.disks import Disks
from tests.support.effort import LONG
from tests.support.serving import Serving, Target, unsettled
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("ROUNDS", "2"))

#: Callers at a time: enough that commits are grouped.
CALLERS = 16

#: How long a delivery may be leased, in seconds, with a target's timeout of 5.
LEASE = 5 + LEASE_MARGIN

pytestmark = pytest.mark.skipif(not LONG, reason="a long one: make power-cut")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_what_was_answered_survives_a_power_cut(seed: int, tmp_path: Path) -> None:
    """Every failure that was answered is on the disk, and every optional delivery of an event that
    got its 000. After the restart retries go only to targets that need them, and all is settled."""
    with three_targets() as targets, closing(Disks(tmp_path)) as disks:
        place = disks.ext4(64)
        store = place / "store.db"
        with targets.router(tmp_path, store) as router:
            with load(router) as codes:
                time.sleep(Random(seed).uniform(0.3, 2.0))
                router.process.kill()
                disks.cut_power(place)
            router.wait()
            unrecorded = sum("unrecorded" in line for line in router.lines("event"))
        disks.restore_power(place)
        lost = lost_of(codes, store)
        print(f"cut {seed}: {len(codes)} events answered, {len(lost)} lost")
        assert (lost, unrecorded) == ([], 0)
        targets.healed.set()
        with targets.router(tmp_path, store) as router:
            settle(router, codes, store, targets.strong)


@contextmanager
def load(router: Serving) -> Iterator[dict[str, str]]:
    """While the block runs events arrive without a pause: half of them fail, half have something to
    queue. Provides the answered ones with their codes."""
    codes: dict[str, str] = {}
    numbers = count()
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            number = next(numbers)
            name = f"fails-{number}" if number % 2 else f"queues-{number}"
            if code := router.post(name):
                codes[name] = code

    with ThreadPoolExecutor(CALLERS) as callers:
        calls = [callers.submit(call) for _ in range(CALLERS)]
        wait_until(lambda: len(codes) > CALLERS)
        try:
            yield codes
        finally:
            over.set()
    for each in calls:
        each.result()


def lost_of(codes: dict[str, str], store: Path) -> list[str]:
    """Return answered events that are not there."""
    kept = {name for name, _ in unsettled(store)}
    return [name for name in codes if name not in kept]


def settle(router: Serving, codes: dict[str, str], store: Path, strong: Target) -> None:
    assert {code for name, code in codes.items() if name.startswith("queues")} == {"000"}
    # What was recorded though its caller never heard of it waits for its retry as well.
    awaiting = {name for name, _ in unsettled(store) if name.startswith("fails")}
    with ThreadPoolExecutor(CALLERS) as callers:
        assert set(callers.map(router.post, awaiting)) == {"000"}
    assert [name for name in awaiting if len(strong.of(name)) != 1] == []
    # What was in flight is leased to the process that died.
    wait_until(lambda: not unsettled(store), LEASE + PATIENCE)
