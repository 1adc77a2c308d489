"""Whose turn at a core it is."""

from __future__ import annotations

import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from router.net.precedence import come_first, gently, stay_behind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such turns")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def time_slice() -> int:
    """For how long the calling thread may keep a core that another waits for, in nanoseconds."""
    said = re.search(r"se\.slice +: +(\d+)", Path("/proc/thread-self/sched").read_text())
    if said is None:
        pytest.skip("this kernel does not say")
    return int(said[1])


def test_a_thread_that_stays_behind_is_nicer_than_its_process() -> None:
    """By how nice that is itself; and no other thread is."""
    own = niceness()
    with ThreadPoolExecutor(1, initializer=stay_behind) as behind, ThreadPoolExecutor(1) as other:
        assert behind.submit(niceness).result() == min(19, own + 5)
        assert other.submit(niceness).result() == own
    assert niceness() == own


def test_a_thread_that_comes_first_takes_a_core_at_once() -> None:
    """Its turns are the shortest that there are, from Linux 6.12 on; those of who stays behind are
    as long as ever, also where it was started by one that comes first."""
    usual = time_slice()
    with ThreadPoolExecutor(1, initializer=come_first) as first:
        if first.submit(time_slice).result() == usual:
            pytest.skip("this kernel has one length for all")
        assert first.submit(time_slice).result() == 100_000
        assert first.submit(niceness).result() == niceness()
        assert first.submit(slice_behind).result() == usual
    assert time_slice() == usual


def slice_behind() -> int:
    with ThreadPoolExecutor(1, initializer=stay_behind) as behind:
        return behind.submit(time_slice).result()


def test_a_thread_that_stays_behind_makes_way_in_long_work() -> None:
    """It sleeps now and then, whatever it goes through; any other thread goes on."""
    with ThreadPoolExecutor(1, initializer=stay_behind) as behind:
        assert behind.submit(gone_through_gently, 40).result() >= 40 * (0.0004 + 0.0005)
    items = [1, 2]
    assert gently(items) is items


def gone_through_gently(items: int) -> float:
    """How long it takes, in seconds, where each of them takes 0.4 ms."""
    began = time.monotonic()
    for _ in gently(range(items)):
        until = time.monotonic() + 0.0004
        while time.monotonic() < until:
            pass
    return time.monotonic() - began
