"""Threads that have a core after the loop's."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from router.net.resources import stay_behind


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells threads apart")
def test_a_thread_that_stays_behind_is_nicer_than_its_process() -> None:
    """By how nice that is itself; and no other thread is."""

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = niceness()
    with ThreadPoolExecutor(1, initializer=stay_behind) as behind, ThreadPoolExecutor(1) as other:
        assert behind.submit(niceness).result() == min(19, own + 5)
        assert other.submit(niceness).result() == own
    assert niceness() == own
