"""Raw bytes to a router and back. The router runs on its production loop, in a thread."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from router.cli.receive import Received
from router.net.http.connection import Limits
from router.net.listening import listen
from router.process.server import Server
from router.web.callbacks import MAX_BODY
from tests.support.house import PATIENCE, SAMPLE, house, routes, stand_in
from tests.support.waiting import wait_until

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [A-Za-z -]+")


def post(*headers: bytes, body: bytes = SAMPLE, target: bytes = b"/callback") -> bytes:
    length = b"Content-Length: %d" % len(body)
    lines = [b"POST " + target + b" HTTP/1.1", b"Host: x", length, *headers]
    return b"\r\n".join([*lines, b"", body])


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


def chunked(*parts: bytes, line: bytes = b"Transfer-Encoding: chunked") -> bytes:
    """Return a callback with exactly these bytes as its chunked body."""
    top = head(b"POST /callback HTTP/1.1", b"Host: x", line)
    return top + b"".join(parts)


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


PROBE = head(b"GET /livez HTTP/1.1", b"Host: x")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ends(self) -> bool:
        """True if it announces the end of the connection."""
        return self.headers.get("connection") == "close"

    @property
    def says(self) -> dict[str, str]:
        """Its body, which has the form of the contract for every status."""
        content: dict[str, str] = json.loads(self.body)
        assert list(content) == ["request_id", "code", "msg"]
        assert all(isinstance(value, str) and value for value in content.values())
        assert content["code"] == ("000" if self.status == 200 else str(self.status))
        assert self.headers["content-type"] == "application/json"
        return content


class Line:
    def __init__(
        self, port: int, receive_buffer: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(("127.0.0.1", port))
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        except OSError:
            self.socket.close()
            raise
        self._come = b""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, *packets: bytes, pause: float = 0.002) -> None:
        for packet in packets:
            self.socket.sendall(packet)
            if len(packets) > 1:
                time.sleep(pause)  # so that they arrive separately

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self) -> Answer | None:
        """Return the next answer; None if the connection ends before it. Fails within an answer."""
        if not self._come_to(b"\r\n\r\n"):
            assert self._come == b""
            return None
        top, _, self._come = self._come.partition(b"\r\n\r\n")
        line, *fields = top.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(line)
        assert match, line
        headers = dict(each.decode("ascii").split(": ", 1) for each in fields)
        size = int(headers.get("content-length", "0"))
        while len(self._come) < size:
            assert self.come(), "the connection ended within an answer"
        body, self._come = self._come[:size], self._come[size:]
        return Answer(int(match[1]), headers, body)

    def _come_to(self, end: bytes) -> bool:
        while end not in self._come:
            if not self.come():
                return False
        return True

    def come(self) -> bool:
        more = self.socket.recv(65536)
        self._come += more
        return more != b""

    def receive_all(self) -> list[Answer]:
        return list(iter(self.receive, None))


def answer_on(line: Line) -> Answer:
    answer = line.receive()
    assert answer is not None
    return answer


@dataclass
class Running:
    """A router that accepts every event and sends it to one stand-in target."""

    port: int
    server: Server
    loop: asyncio.AbstractEventLoop
    #: The requests of the target.
    events: list[Received] = field(default_factory=list)
    #: Log lines that are errors or come from a library.
    troubles: list[str] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def line(self, **options: Any) -> Line:
        return Line(self.port, **options)

    def ask(self, *packets: bytes) -> Answer:
        with self.line() as line:
            line.say(*packets)
            return answer_on(line)

    def stop(self) -> None:
        """Begin the stop; later the loop may be closed."""
        if not self._over.is_set():
            self.loop.call_soon_threadsafe(self._over.set)

    def connections(self) -> int:
        return len(self.server.tally.connections)

    def wait_for_connections(self, count: int) -> None:
        wait_until(lambda: self.connections() == count)


@contextmanager
def running(
    limits: Limits,
    delay: float = 0.0,
    send_buffer: int = 0,
    tls: ssl.SSLContext | None = None,
    max_body: int = MAX_BODY,
    ebaas: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """Run a router and its target, which answers after `delay` seconds.

    The store is a new one, because another with the same bodies would claim events.
    """
    up = threading.Event()
    troubles: list[str] = []
    made: list[Running] = []

    async def serve() -> None:
        listener = listen("127.0.0.1", 0)
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        serving = {"limits": limits, "tls": tls, "drain_timeout": 10}
        async with stand_in(delay=delay) as (url, events):
            async with house(
                routes({"target": url}, ebaas=ebaas or {}),
                **{"store": store, **settings},
                listener=listener,
                max_body=max_body,
                serving=serving,
            ) as router:
                assert router.server is not None
                loop, port = asyncio.get_running_loop(), router.address[1]
                made.append(Running(port, router.server, loop, events, troubles))
                up.set()
                await made[0]._over.wait()
            lines = router.stream.getvalue().splitlines()
            troubles.extend(line for line in lines if '"level":"error"' in line)

    def main() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: troubles.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.db"
        thread = threading.Thread(target=main)
        thread.start()
        assert up.wait(PATIENCE)
        try:
            yield made[0]
        finally:
            made[0].stop()
            thread.join(PATIENCE)
            logging.getLogger().removeHandler(handler)
