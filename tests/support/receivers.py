"""A correct receiver on a real socket."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from router.contract.signing import Signer
from router.model.secret import Secret
from tests.support.sockets import serving_in_a_thread

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

GOOD = {"code": "000", "msg": "成功"}

#: Instead of an answer, which breaks the connection.
BROKEN = (0, b"")


def is_signed(headers: dict[str, str], body: bytes, now: float | None = None) -> bool:
    return not Signer([Secret(SECRET)]).why_not(headers, body, now or time.time())


class Right(BaseHTTPRequestHandler):
    """A correct receiver. Subclasses replace parts of it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Serving

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.judge(headers, body)
        self.close_connection |= (status, answer) == BROKEN
        self.answer(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.answer(405, b"{}")

    def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        if not self.trusts(headers, body):
            return 401, {"code": "401"}
        try:
            event = json.loads(body)
        except ValueError:
            return 400, {"code": "400"}
        return self.take(headers, event)

    def trusts(self, headers: dict[str, str], body: bytes) -> bool:
        return is_signed(headers, body)

    def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
        return 200, GOOD

    def answer(self, status: int, content: bytes) -> None:
        if not status:
            return
        self.send_response(status)
        for name, value in self.more():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def more(self) -> list[tuple[str, str]]:
        return []

    def log_message(self, *_: object) -> None:
        pass


class Serving(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[Right]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.seen: set[str] = set()
        self.count = 0
        self.working = threading.Semaphore(3)

    def handle_error(self, *_: object) -> None:
        """Ignore callers that disconnect."""


@contextmanager
def serving(handler: type[Right], context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = Serving(handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving_in_a_thread(server):
        yield f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}/callback"


def answering(answer: Any, status: int = 200, *more: tuple[str, str]) -> type[Right]:
    """Return a receiver with the same answer for every event."""

    class Telling(Right):
        def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
            return status, answer

        def more(self) -> list[tuple[str, str]]:
            return [*more]

    return Telling


#: The path, the headers and the body of a request.
Kept = tuple[str, dict[str, str], bytes]


def keeping(
    got: list[Kept], answer: Any = GOOD, status: int = 200, *more: tuple[str, str]
) -> type[Right]:
    """Return a receiver that keeps each request, of whomever, and gives the same answer."""

    class Keeping(answering(answer, status, *more)):  # type: ignore[misc]
        def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
            got.append((self.path, headers, body))
            return status, answer

    return Keeping
