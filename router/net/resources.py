"""What the system allows a process, open files and memory, and how far that goes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from router.model.errors import StartFailed

#: Open files that a process may have, where the system lets it have as many.
FILES = 65536

#: Files that a process has open beside its connections: its loop, its log, what a reload and a
#: look-up of names read; and the connections at the ops port.
SPARE, OPS = 64, 64

#: The fewest connections that callers can do with.
LEAST = 32

_MIB = 1024 * 1024


class Callers(NamedTuple):
    """How many connections callers may have."""

    connections: int
    #: Beyond those, for probes and for who is told that the house is full.
    reserve: int
    #: Where these are fewer than were asked for: why, in one line.
    note: str = ""


def files_allowed() -> int:
    """What `run` raises this process's limit of open files to."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)


def share_out(files: int, asked: Callers, targets: int, store: int) -> Callers:
    """How many of so many files callers may have, where targets and the store want as many as that.

    Targets have what they want up to half of what is there: they shall not fail for the number of
    those who call. Raises StartFailed where too few are left.
    """
    rest = files - SPARE - OPS - store
    callers = rest - min(targets, rest // 2)
    if callers < LEAST:
        needed = SPARE + OPS + store + LEAST + min(targets, LEAST)
        raise StartFailed(
            f"at least {needed} open files are needed, and the system allows {files}: "
            "raise that (ulimit -n, LimitNOFILE)"
        )
    reserve = min(asked.reserve, callers // 8)
    connections = min(asked.connections, callers - reserve)
    if connections == asked.connections:
        return Callers(connections, reserve)
    note = (
        f"--max-connections: {connections} and not {asked.connections}: the system allows {files} "
        f"open files, of which targets get {rest - callers}, the store {store}, and "
        f"{SPARE + OPS + reserve} are kept back: raise that (ulimit -n, LimitNOFILE)"
    )
    return Callers(connections, reserve, note)


def memory_note(limit: int | None, requests: int, max_body: int) -> str:
    """What is to be said of so many callbacks in so much memory; `""` where they fit."""
    needed = requests * max_body
    if limit is None or needed <= limit:
        return ""
    return (
        f"--max-requests x --max-body: callbacks in flight may take {_mib(needed)}, and "
        f"the limit of memory is {_mib(limit)}: lower one of them"
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.0f} MiB"


def memory_limit(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """The least limit of the control groups that this process is in, in bytes; None without one."""
    found = []
    for path in _limits(groups, root):
        with suppress(OSError, ValueError):  # not there, or `max`
            found.append(int(path.read_text()))
    return min(found, default=None)


def _limits(groups: Path, root: Path) -> Iterator[Path]:
    """The files that may have a limit. Within a container its own group may be the root."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        top, name = root, "memory.max"
        if "memory" in kinds.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        elif kinds:
            continue
        group = Path(place.lstrip("/"))
        yield from (top / each / name for each in (group, *group.parents))
