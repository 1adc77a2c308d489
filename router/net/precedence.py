"""Which thread of a process has a core first, where several could use it: its loop's."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")

#: How much nicer who stays behind is: it is left a quarter of a core that the loop wants too. An
#: archive of bodies of 16 KB needs that beside a loop that has no rest, or it loses lines. And how
#: much nicer who stays far behind is, who is left a tenth: where the archive was, it lost half.
_NICENESS, _FAR = 5, 10

#: How long a thread's turns at a core are, in nanoseconds: the shortest that Linux grants, and what
#: it chooses itself, some milliseconds. Who gets ready with shorter turns takes the core at once
#: from one with longer ones: from Linux 6.12 on; before, all turns are alike.
_SHORT, _USUAL = 100_000, 0

#: How long a thread in long work sleeps, one after the other until the loop has had some rest, in
#: seconds; and which part of such a time a loop without rest has a core, or waits for one.
_MOMENTS, _BUSY = (0.0005, 0.001, 0.002), 0.7

#: How long that thread then holds a core in one go, where it can help it, in seconds: beside a loop
#: that has something to do; beside one that took less than such a part of the moment before; and
#: beside one without any rest, so that the work gets an eighth of the time all the same.
_HOLD, _HOLD_BESIDE_IDLE, _IDLE, _HOLD_WITHOUT_REST = 0.00015, 0.0005, 0.1, 0.0005

#: The number of `sched_setattr`, by machine, and what it is told: size, policy, flags, niceness,
#: priority, time, deadline, period. Python has no function for it.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


class _First(NamedTuple):
    """The thread that comes first."""

    ident: int
    #: Tells for how long it has had a core; -1 where there is none.
    clock: int
    #: The file that tells for how long it has waited for one, with its second number.
    status: Path


_first: _First | None = None

#: Of a thread in long work: until when it may hold its core, by time.monotonic.
_turn = threading.local()


@contextmanager
def coming_first() -> Iterator[None]:
    """Let the calling thread, the loop's, have its core as soon as it is ready, where the system
    knows turns of different lengths, and allows them; and others make way for it.

    Where reloads of 10,000 routes share one core with it, short turns take the 99th of a hundred
    events from 14 ms to 7, and the 999th of a thousand from 94 ms to 15: `make tails`.
    """
    global _first
    _take_turns(_SHORT)
    ident = threading.get_ident()
    clock = time.pthread_getcpuclockid(ident) if sys.platform == "linux" else -1
    status = Path("/proc/self/task", str(threading.get_native_id()), "schedstat")
    before, _first = _first, _First(ident, clock, status)
    try:
        yield
    finally:
        _first = before


def stay_behind(*, far: bool = False) -> None:
    """Let the calling thread have a core after the loop's, where the system tells threads apart:
    Linux does; far, if its work has time. It makes way also where no thread has said that it comes
    first."""
    _turn.until, added = 0.0, _FAR if far else _NICENESS
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + added)
        _take_turns(_USUAL)  # it has those of the thread that has started it


def make_way(*, briefly: bool = False) -> None:
    """In long work of a thread beside the loop's, to be called again and again: let the loop have
    the core that this thread holds, where it has held it for a while, until the loop has had some
    rest; briefly, where others wait for that work, for half a millisecond. In the loop's own
    thread, and where there is none, nothing.

    Whoever has had more than its part takes no core at once, however short its turns are, but when
    the system looks next: with the 250 Hz of most, each 4 ms.
    """
    if time.monotonic() >= getattr(_turn, "until", 0.0) and _is_beside():
        _turn.until = _after_rest(_MOMENTS[:1] if briefly else _MOMENTS)


def gently(items: Iterable[T]) -> Iterable[T]:
    """The same items; after each of them there is time to make way."""
    return _with_pauses(items) if _is_beside() else items


def _with_pauses(items: Iterable[T]) -> Iterator[T]:
    for item in items:
        yield item
        make_way()


def _is_beside() -> bool:
    """Whether this thread is beside the loop's; one that stays behind is, whoever's the loop is."""
    first = _first
    return hasattr(_turn, "until") if first is None else first.ident != threading.get_ident()


def _after_rest(moments: Iterable[float]) -> float:
    """Sleep until the loop has had some rest; until when its core may then be held."""
    for moment in moments:
        began, wanted = time.monotonic(), _wanted()
        time.sleep(moment)
        part = (_wanted() - wanted) / (time.monotonic() - began)
        if part < _BUSY:
            return time.monotonic() + (_HOLD_BESIDE_IDLE if part < _IDLE else _HOLD)
    return time.monotonic() + _HOLD_WITHOUT_REST


def _wanted() -> float:
    """For how long the loop's thread has had a core, or waited for one, in seconds; as far as
    somebody says."""
    first, had = _first, 0.0
    if first is not None:
        with suppress(OSError, ValueError):
            # The file tells this too, but of one that runs as it was when the system looked last.
            had = time.clock_gettime(first.clock)
            _, waited, _ = first.status.read_bytes().split()
            had += int(waited) / 1e9
    return had


def _take_turns(nanoseconds: int) -> None:
    number = _SCHED_SETATTR.get(os.uname().machine)
    if sys.platform != "linux" or number is None:
        return
    with suppress(OSError):  # where it may not even ask
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            return
        niceness = os.getpriority(os.PRIO_PROCESS, 0)  # as it is; on Linux that is the thread's own
        told = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, niceness, 0, nanoseconds, 0, 0)
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(0), told, ctypes.c_long(0))
