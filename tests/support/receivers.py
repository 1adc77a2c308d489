"""Receivers on real sockets: one that is right, and those with one fault each."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from router.contract.signing import Signer
from router.model.secret import Secret
from tests.support.sockets import serving_in_a_thread

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

GOOD = {"code": "000", "msg": "成功"}


def is_signed(headers: dict[str, str], body: bytes, now: float | None = None) -> bool:
    return not Signer([Secret(SECRET)]).why_not(headers, body, now or time.time())


class Right(BaseHTTPRequestHandler):
    """A receiver without fault. One with a fault has some of its parts otherwise."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Serving

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, told = self.judge(headers, body)
        self.answer(status, told if isinstance(told, bytes) else json.dumps(told).encode())

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
    """What requests leave behind for later ones."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[Right]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.seen: set[str] = set()
        self.count = 0
        self.working = threading.Semaphore(3)

    def handle_error(self, *_: object) -> None:
        """A caller that has gone is no matter."""


@contextmanager
def serving(handler: type[Right], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Its URL, until the block ends."""
    server = Serving(handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving_in_a_thread(server):
        yield f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}/callback"


def tells(answer: Any, status: int = 200, *more: tuple[str, str]) -> type[Right]:
    """One that answers every event so."""

    class Telling(Right):
        def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
            return status, answer

        def more(self) -> list[tuple[str, str]]:
            return [*more]

    return Telling


def minds(fault: Callable[[dict[str, Any]], object], status: int = 400) -> type[Right]:
    """One that refuses an event for which `fault` says so, or raises."""

    class Minding(Right):
        def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
            try:
                wrong = fault(event)
            except (KeyError, ValueError, AttributeError):
                return 500, b"oops"
            return (status, {"code": str(status)}) if wrong else (200, GOOD)

    return Minding


def trusting(trusts: Callable[[dict[str, str], bytes], bool]) -> type[Right]:
    class Trusting(Right):
        def trusts(self, headers: dict[str, str], body: bytes) -> bool:
            return trusts(headers, body)

    return Trusting


def _whole_header(headers: dict[str, str], body: bytes) -> bool:
    webhook_id, at = (headers[name].encode() for name in ("webhook-id", "webhook-timestamp"))
    right = Signer([Secret(SECRET)]).sign(webhook_id, at, body).decode()
    return headers.get("webhook-signature") == right and is_signed(headers, body)


def _by_time_alone(headers: dict[str, str], body: bytes) -> bool:
    at = float(headers["webhook-timestamp"])
    return "webhook-signature" in headers and abs(time.time() - at) < 300


def _whenever(headers: dict[str, str], body: bytes) -> bool:
    return is_signed(headers, body, float(headers["webhook-timestamp"]))


def _not_old(headers: dict[str, str], body: bytes) -> bool:
    """It compares with one side of its clock alone."""
    at = float(headers["webhook-timestamp"])
    return time.time() - at < 300 and is_signed(headers, body, at)


def crashing(field: str) -> type[Right]:
    """One that ends the connection at an event without something in that field."""

    class Crashing(Right):
        def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
            if event.get(field):
                return 200, GOOD
            raise KeyError(field)

    return Crashing


class SecondTimeRefused(Right):
    def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
        known = headers["webhook-id"] in self.server.seen
        self.server.seen.add(headers["webhook-id"])
        return (409, {"code": "409"}) if known else (200, GOOD)


class SometimesSlow(Right):
    def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
        self.server.count += 1
        if self.server.count == 3:
            time.sleep(1.2)
        return 200, GOOD


class FewAtOnce(Right):
    def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
        if not self.server.working.acquire(blocking=False):
            return 503, {"code": "503"}
        time.sleep(0.02)
        self.server.working.release()
        return 200, GOOD


class LargeRefused(Right):
    def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        return (413, {"code": "413"}) if len(body) > 100_000 else super().judge(headers, body)


class FormsTaken(Right):
    def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        if headers["content-type"] != "application/json":
            return 200, GOOD
        return super().judge(headers, body)


class BrokenCrashes(Right):
    def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        status, told = super().judge(headers, body)
        is_json = headers["content-type"] == "application/json"
        return (500, b"oops") if status == 400 and is_json else (status, told)


class RefusesUnread(Right):
    """Trust is by the head alone, and a refused body is left on the connection."""

    def do_POST(self) -> None:
        if self.headers["content-length"] == "15":
            self.answer(400, b"{}")
        else:
            super().do_POST()


class Surplus(Right):
    def answer(self, status: int, content: bytes) -> None:
        super().answer(status, content)
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")


class Short(Right):
    """It says more bytes than it sends."""

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content) + 9))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True


#: A receiver with one fault: the check that finds it, as what the router takes such an answer (none
#: where it gets none), and a word of how to mend it.
FAULTS: dict[str, tuple[type[Right], str, str | None, str]] = {
    "redirects": (tells(b"", 308, ("location", "/x/")), "answers", "redirect", "slash"),
    "says ok": (tells(b"ok"), "answers", "not_json", "one JSON object"),
    "code is a number": (tells({"code": 0}), "answers", "code", "string"),
    "another code": (tells({"code": "200"}), "answers", "code", "000"),
    "no body": (tells(b""), "answers", "empty", "acknowledge: status"),
    "wrong path": (tells(GOOD, 404), "answers", "status", "path"),
    "a status": (tells(GOOD, 500), "answers", "status", "log"),
    "compresses": (
        tells(gzip.compress(b'{"code":"000"}'), 200, ("content-encoding", "gzip")),
        "answers", "encoded", "compress",
    ),
    "says too much": (tells({"code": "000", "msg": "x" * 70_000}), "answers", "too_large", "64"),
    "short": (Short, "answers", "reset", "content-length"),
    "slow now and then": (SometimesSlow, "timing", "timeout", "afterwards"),
    "refuses the second time": (SecondTimeRefused, "twice", "status", "processed before"),
    "wants changes": (minds(lambda e: not e["changes"]), "no-changes", "status", "to be empty"),
    "wants a key": (minds(lambda e: not e["event_key"].split()), "no-key", "status", "optional"),
    "crashes without changes": (crashing("changes"), "no-changes", "reset", "to be empty"),
    "crashes without a key": (crashing("event_key"), "no-key", "reset", "as optional"),
    "knows all fields": (minds(lambda e: "tenant" in e), "unknown-fields", "status", "ignore"),
    "ASCII alone": (
        minds(lambda e: e["event_type"].encode("ascii") and None), "scripts", "status", "UTF-8",
    ),
    "few ids": (minds(lambda e: len(e["changes"]) == 1000), "many-ids", "status", "any length"),
    "small bodies": (LargeRefused, "large-body", "status", "1 MiB"),
    "signature unasked": (
        trusting(lambda h, b: "webhook-signature" not in h or is_signed(h, b)),
        "unsigned", None, "401",
    ),
    "signature unread": (trusting(_by_time_alone), "wrong-signature", None,
        "401"),
    "time unread": (trusting(_whenever), "stale", None, "five minutes"),
    "time ahead unread": (trusting(_not_old), "stale", None, "five minutes"),
    "one signature alone": (trusting(_whole_header), "rotated", "status", "blanks"),
    "takes forms": (FormsTaken, "content-type", None, "415"),
    "crashes at broken JSON": (BrokenCrashes, "broken-json", None, "400"),
    "leaves bodies unread": (RefusesUnread, "keep-alive", "status", "whole body"),
    "few at once": (FewAtOnce, "at-once", "status", "max_in_flight"),
}  # fmt: skip
