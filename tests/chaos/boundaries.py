"""Kill a process right before one system call, and so between any two of its effects."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.command import ROOT

#: How long strace may take to attach, in seconds.
PATIENCE = 20.0

#: The calls by which something becomes durable, and those that send or answer.
#: The second are looked at in the main thread alone, which has the event loop.
COMMITS = ("pwrite64", "fdatasync")
SENDS = ("write", "writev", "sendmsg", "sendto")

_TIME = re.compile(r"\d+\.\d+")


class NoStrace(Exception):
    """There is no strace, or it may not trace another process here."""


@dataclass(frozen=True, slots=True)
class Point:
    """Before the `number`th such call of a thread since strace was attached, from 1."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call}-{self.number}"


@asynccontextmanager
async def killed_at(point: Point, pid: int, log: Path) -> AsyncIterator[None]:
    """Kill the process before that call, while the block runs. Raises NoStrace."""
    if not (shutil.which("strace") or (ROOT / ".tools/strace/usr/bin/strace").exists()):
        raise NoStrace("strace is not installed; scripts/strace fetches it")
    inject = f"inject={point.call}:signal=KILL:when={point.number}"
    threads = ["-f"] if point.call in COMMITS else []
    tracer = await asyncio.create_subprocess_exec(
        ROOT / "scripts/strace",
        *("-p", str(pid), *threads, "-ttt", "-o", str(log)),
        *("-e", f"trace={point.call}", "-e", inject),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracer.stderr is not None
    try:
        line = await asyncio.wait_for(tracer.stderr.readline(), PATIENCE)
        if b"attached" not in line:
            raise NoStrace(line.decode().strip())
        yield
    finally:
        with suppress(ProcessLookupError):
            tracer.terminate()
        await tracer.wait()


def time_of_death(log: Path) -> float:
    """Return the Unix time of the process's last call. Its parent notices its end later."""
    calls = (line for line in log.read_text().splitlines() if "+++" not in line)
    return max(float(_TIME.search(line)[0]) for line in calls)  # type: ignore[index]
