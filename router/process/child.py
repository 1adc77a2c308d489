"""A worker process and its parent, each as the other sees it over the line between them.

Orders go one way and JSON the other, one to a line. A worker whose line breaks has lost its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from subprocess import DEVNULL
from typing import Any

from router.ops import Report
from router.process.running import STOPS

#: Seconds that a worker has for its report.
REPORT_WAIT = 0.5

#: Seconds between two looks at whether a worker has ended that says nothing more.
GLANCE = 0.02

#: The longest message of a worker, in bytes.
LONGEST = 64 * 1024 * 1024


class Order(StrEnum):
    """What a parent says."""

    #: Say how you are: a message `report`.
    REPORT = "report"
    RELOAD = "reload"
    STOP = "stop"
    HURRY = "hurry"


class Control:
    """A worker's end of the line."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._writer: asyncio.StreamWriter | None = None

    def failed(self, why: str) -> None:
        """Say why there will be no service; before `obey`."""
        with contextlib.suppress(OSError):
            self._line.sendall(_message(failed=why))

    async def obey(
        self, deeds: Mapping[Order, Callable[[], Any]], up: dict[str, Any], lost: Callable[[], None]
    ) -> None:
        """Say that the service is up, with what there is to tell about it, and do what is ordered.

        A report is what its deed returns. `lost` is called when no more orders can come.
        """
        try:
            reader, writer = await asyncio.open_connection(sock=self._line)
            self._writer = writer
            writer.write(_message(up=up))
            async for line in reader:
                order = Order(line.decode().strip())
                done = deeds[order]()
                if order is Order.REPORT:
                    writer.write(_message(report=done))
        except ConnectionError:
            pass
        finally:
            lost()

    def reloaded(self, successful: bool) -> None:
        """Say whether what routes.yaml says now is in force."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(_message(reloaded=successful))


class Child:
    """One worker's process, as its parent sees it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        #: When it came up, on the loop's clock; None until then.
        self.since: float | None = None
        #: What it said of itself when it came up.
        self.facts: dict[str, Any] = {}
        #: Why it could not start, in its own words.
        self.failure = ""
        #: Its last report.
        self.last: Report | None = None
        #: How often it was asked for one since it last said anything.
        self.unheard = 0
        #: Whether it has yet to say how a reload went.
        self.is_reloading = False
        #: Whether what routes.yaml said at its last look is in force there.
        self.is_current = True
        self._process = process
        self._reader = reader
        self._writer = writer
        self._asked: asyncio.Future[Report | None] | None = None

    @classmethod
    async def start(cls, command: Sequence[str], bound: socket.socket) -> Child:
        """`command` gets two file descriptors more: its socket, and its end of the line."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (bound.fileno(), theirs.fileno())
            process = _born(command, descriptors)
        reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST)
        return cls(process, reader, writer)

    async def attend(
        self, on_up: Callable[[], None], on_reloaded: Callable[[], None] = lambda: None
    ) -> str:
        """Take in what it says until it has ended; how it ended."""
        with contextlib.suppress(ConnectionError):
            async for line in self._reader:
                if line.endswith(b"\n"):  # half a line is the last word of one that was killed
                    self._hear(json.loads(line), on_up, on_reloaded)
        self._answer(None)
        self._writer.close()
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - it has let go of the line
            await asyncio.sleep(GLANCE)
        return _ending(code)

    def _hear(
        self,
        message: dict[str, Any],
        on_up: Callable[[], None],
        on_reloaded: Callable[[], None],
    ) -> None:
        self.unheard = 0
        match message:
            case {"report": report}:
                self.last = report
                self._answer(report)
            case {"up": facts}:
                self.since, self.facts = asyncio.get_running_loop().time(), facts
                on_up()
            case {"reloaded": is_current}:
                self.is_current, self.is_reloading = is_current, False
                on_reloaded()
            case {"failed": why}:
                self.failure = why

    def say(self, order: Order) -> None:
        if not self._writer.is_closing():
            self._writer.write(f"{order}\n".encode())

    def reload(self) -> None:
        """One that is not up yet reads routes.yaml anyway."""
        self.is_reloading = self.since is not None
        self.say(Order.RELOAD)

    async def report(self) -> Report | None:
        """How it is now; None where it does not say so in time."""
        if self.since is None:
            return None
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            self.say(Order.REPORT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_WAIT):
                return await asyncio.shield(self._asked)
        return None

    def _answer(self, report: Report | None) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(report)
        self._asked = None

    def kill(self) -> None:
        self._process.kill()


def _born(command: Sequence[str], descriptors: tuple[int, int]) -> subprocess.Popen[bytes]:
    """A process that no signal to the whole group stops, from its first moment on: these are
    blocked, which the loop's own subprocesses would undo. Such a signal counts once."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        return subprocess.Popen(  # noqa: S603 - what runs here, once more
            [*command, "{},{}".format(*descriptors)], stdin=DEVNULL, pass_fds=descriptors
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _message(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _ending(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"{signal.Signals(-code).name} ended it"
    except ValueError:
        return f"signal {-code} ended it"
