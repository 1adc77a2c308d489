"""Whose turn at a core it is."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

import pytest

from router.net import precedence
from router.net.precedence import coming_first, gently, make_way, stay_behind

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
    far_behind = partial(stay_behind, far=True)
    with (
        ThreadPoolExecutor(1, initializer=stay_behind) as behind,
        ThreadPoolExecutor(1, initializer=far_behind) as far,
        ThreadPoolExecutor(1) as other,
    ):
        assert behind.submit(niceness).result() == min(19, own + 5)
        assert far.submit(niceness).result() == min(19, own + 10)
        assert other.submit(niceness).result() == own
    assert niceness() == own


def test_a_thread_that_comes_first_takes_a_core_at_once() -> None:
    """Its turns are the shortest that there are, from Linux 6.12 on; those of who stays behind are
    as long as ever, also where it was started by one that comes first."""
    usual = time_slice()
    with ThreadPoolExecutor(1) as thread:
        short, same, behind = thread.submit(slices_coming_first).result()
    if short == usual:
        pytest.skip("this kernel has one length for all")
    assert (short, same, behind) == (100_000, niceness(), usual)
    assert time_slice() == usual


def slices_coming_first() -> tuple[int, int, int]:
    """Of a thread that comes first, how nice it is, and of one behind it."""
    with coming_first(), ThreadPoolExecutor(1, initializer=stay_behind) as behind:
        return time_slice(), niceness(), behind.submit(time_slice).result()


def test_long_work_makes_way_for_a_loop_until_that_has_had_some_rest() -> None:
    """Half a millisecond beside an idle one; three and a half beside one that has no rest, if it is
    seen to have none: while somebody else has its core it is not."""
    with idle_loop(), ThreadPoolExecutor(1) as beside:
        assert beside.submit(pause).result() >= 0.0005
    with busy_loop(), ThreadPoolExecutor(1) as beside:
        pauses = (beside.submit(pause).result() for _ in range(500))
        assert any(each >= 0.0035 for each in pauses)


def test_a_loop_without_rest_is_seen_where_nobody_says_for_how_long_it_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the time for which it has had a core."""
    with busy_loop(), ThreadPoolExecutor(1) as beside, monkeypatch.context() as patch:
        assert precedence._first is not None
        blind = precedence._first._replace(status=Path("/nowhere"))
        patch.setattr(precedence, "_first", blind)
        pauses = (beside.submit(pause).result() for _ in range(500))
        assert any(each >= 0.0035 for each in pauses)


def test_where_nobody_may_ask_everything_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems refuse even that."""

    def refused(*_: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    for name in ("sched_getscheduler", "getpriority"):
        monkeypatch.setattr(os, name, refused)
        with coming_first(), ThreadPoolExecutor(1, initializer=stay_behind) as behind:
            assert behind.submit(pause).result() >= 0.0005


def test_a_loop_within_another_takes_nothing_from_it() -> None:
    """Once the inner one is over, way is made for the outer one again."""
    items = [1, 2]
    with coming_first():
        with ThreadPoolExecutor(1) as inner:
            inner.submit(come_and_go).result()
        with ThreadPoolExecutor(1) as beside:
            assert beside.submit(gently, items).result() is not items


def come_and_go() -> None:
    with coming_first():
        pass


def pause() -> float:
    """How long the next one takes, in seconds, of a thread that has held its core for long."""
    time.sleep(0.001)
    began = time.monotonic()
    make_way()
    return time.monotonic() - began


def test_no_loop_makes_way_for_itself() -> None:
    items = [1, 2]
    assert gently(items) is items
    with coming_first():
        assert gently(items) is items


def test_a_thread_that_stays_behind_makes_way_whoever_the_loop_is() -> None:
    """Under a server that is not ours, nobody has said which thread comes first."""
    with ThreadPoolExecutor(1, initializer=stay_behind) as behind:
        assert behind.submit(pause).result() >= 0.0005
        assert behind.submit(lambda: list(gently([1, 2]))).result() == [1, 2]


@contextmanager
def idle_loop() -> Iterator[None]:
    with loop_that(lambda over: over.wait()):
        yield


@contextmanager
def busy_loop() -> Iterator[None]:
    """It hashes, which leaves the interpreter to others."""

    def work(over: Event) -> None:
        text = bytes(1_000_000)
        while not over.is_set():
            sha256(text)

    with loop_that(work):
        yield


@contextmanager
def loop_that(works: Callable[[Event], object]) -> Iterator[None]:
    up, over = Event(), Event()

    def run() -> None:
        with coming_first():
            up.set()
            works(over)

    thread = Thread(target=run)
    thread.start()
    up.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
