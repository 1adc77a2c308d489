"""Callers that send one event after another."""

from __future__ import annotations

import select
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.command import PATIENCE
from tests.support.serving import body
from tests.support.waiting import wait_until
from tests.support.wire import Line, post


class Load:
    """Callers that send one event after another, and their replies."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._over = threading.Event()
        #: The codes of replies, and the errors instead of replies.
        self.replies: Counter[str] = Counter()
        #: The events that got 000.
        self.acknowledged: list[str] = []
        #: The number of requests on reused connections.
        self.kept = 0

    @contextmanager
    def running(self, callers: int = 8) -> Iterator[None]:
        """Send events until the block ends. Half of the callers reuse their connections."""
        threads = [
            threading.Thread(target=self._call, args=(number, number % 2 == 0))
            for number in range(callers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(PATIENCE)

    def go_on(self) -> None:
        """Wait for a hundred more replies."""
        seen = self.replies.total()
        wait_until(lambda: self.replies.total() > seen + 100)

    def _call(self, caller: int, keeps: bool) -> None:
        with ExitStack() as stack:
            line, number = None, 0
            while not self._over.is_set():
                name, number = f"{caller}-{number}", number + 1
                try:
                    if line is None or not keeps or _has_ended(line):
                        stack.close()
                        line = stack.enter_context(Line(self._port, tls=self._tls))
                    else:
                        self.kept += 1
                    line.say(post(body=body(name)))
                    answer = line.receive()
                except OSError as error:
                    self.replies[type(error).__name__] += 1
                    line = None
                    continue
                code = answer.says["code"] if answer else "closed"
                self.replies[code] += 1
                if code == "000":
                    self.acknowledged.append(name)
                if answer is None or answer.ends:
                    line = None


def _has_ended(line: Line) -> bool:
    """Return whether the other side has closed an idle connection."""
    # `select` cannot watch the files of a test with thousands of connections.
    poll = select.poll()
    poll.register(line.socket, select.POLLIN)
    return bool(poll.poll(0))
