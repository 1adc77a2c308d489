"""Which thread of a process has a core first, where several could use it: its loop's."""

from __future__ import annotations

import ctypes
import math
import os
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

#: How much nicer who stays behind is: it is left a quarter of a core that the loop wants too. An
#: archive needs a twelfth of what the loop takes.
_NICENESS = 5

#: How long a thread's turns at a core are, in nanoseconds: the shortest that Linux grants, and what
#: it chooses itself, some milliseconds. Who gets ready with shorter turns takes the core at once
#: from one with longer ones: from Linux 6.12 on; before, all turns are alike.
_SHORT, _USUAL = 100_000, 0

#: How long a thread that stays behind holds a core in one go, where it can help it, and how long it
#: then sleeps, in seconds.
_WHILE, _MOMENT = 0.0003, 0.0005

#: The number of `sched_setattr`, by machine, and what it is told: size, policy, flags, niceness,
#: priority, time, deadline, period. Python has no function for it.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")

#: Of a thread that stays behind: until when it may hold its core, by time.monotonic.
_behind = threading.local()


def come_first() -> None:
    """Let the calling thread, the loop's, have its core as soon as it is ready, where the system
    knows turns of different lengths, and allows them.

    Where reloads of 10,000 routes share one core with it, that takes the 99th of a hundred events
    from 14 ms to 7, and the 999th of a thousand from 94 ms to 15: `make tails`.
    """
    _take_turns(_SHORT)


def stay_behind() -> None:
    """Let the calling thread have a core after the loop's, where the system tells threads apart:
    Linux does."""
    _behind.until = 0.0
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)
        _take_turns(_USUAL)  # it has those of the thread that has started it


def make_way() -> None:
    """In long work of a thread that stays behind, to be called again and again: let the loop have
    the core that this thread holds, where it has held it for a while. In any other thread nothing.

    Whoever has had more than its part takes no core at once, however short its turns are, but when
    the system looks next: with the 250 Hz of most, each 4 ms.
    """
    until = getattr(_behind, "until", math.inf)
    if time.monotonic() >= until:
        time.sleep(_MOMENT)
        _behind.until = time.monotonic() + _WHILE


def gently(items: Iterable[T]) -> Iterable[T]:
    """The same items; after each of them there is time to make way."""
    return _with_pauses(items) if hasattr(_behind, "until") else items


def _with_pauses(items: Iterable[T]) -> Iterator[T]:
    for item in items:
        yield item
        make_way()


def _take_turns(nanoseconds: int) -> None:
    number = _SCHED_SETATTR.get(os.uname().machine)
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    niceness = os.getpriority(os.PRIO_PROCESS, 0)  # as it is; on Linux that is the thread's own
    told = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, niceness, 0, nanoseconds, 0, 0)
    ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_long(0), told, ctypes.c_long(0))
