"""What the service manager that started this process is told, as systemd's sd_notify has it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

#: Seconds that one message may wait for a manager that does not read.
_WAIT = 1.0


class Notifier:
    """A Service (see running.py) that is started as the last one, and so stopped as the first.

    Without a manager it says nothing. A manager that can't be reached stops nobody's work.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """The variables are taken away: nobody but this process is to speak for the service."""
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        #: After how long a silence the manager restarts the service, in seconds; None is never.
        self.watchdog = _watchdog(environ)
        self._about = ""
        self._stopped = asyncio.Event()

    # A Service.

    async def serve(self) -> None:
        """Feed the manager's watchdog from the loop, so that one that is blocked is found out. That
        goes on after a stop, to the loop's end."""
        if self.watchdog is not None:
            self._feed(self.watchdog / 2)
        await self._stopped.wait()
        self._say("STOPPING=1", "STATUS=Stopping: what is in flight is finished first")

    async def up(self) -> None:
        """At once: whether the service is ready is for others to say."""

    def stop(self) -> None:
        self._stopped.set()

    def hurry(self) -> None:
        self.stop()

    # What happens in between.

    def ready(self, url: str) -> None:
        """The service serves there."""
        self._about = f"Serving {url}"
        self._say("READY=1", f"STATUS={self._about}")

    def reloading(self) -> None:
        """A reload was asked for; `reloaded` is the end of it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reading routes.yaml")

    def reloaded(self, successful: bool) -> None:
        """Whether what routes.yaml says now is in force."""
        refused = "" if successful else "; routes.yaml was refused, the log says why"
        if not self._stopped.is_set():
            self._say("READY=1", f"STATUS={self._about}{refused}")

    def _feed(self, every: float) -> None:
        asyncio.get_running_loop().call_later(every, self._feed, every)
        self._say("WATCHDOG=1")

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking,
        ):
            speaking.settimeout(_WAIT)
            speaking.sendto("\n".join(lines).encode(), self._address)


def _address(text: str) -> str:
    """The socket's file, or its abstract name; `""` for what is neither."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog(environ: MutableMapping[str, str]) -> float | None:
    """Seconds, where the manager waits for this process."""
    text, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    is_ours = pid in ("", str(os.getpid()))
    return int(text) / 1e6 if is_ours and text.isdecimal() and int(text) > 0 else None
