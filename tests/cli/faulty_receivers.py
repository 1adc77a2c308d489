"""Receivers with one fault each, which `probe` has to find."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from typing import Any

from router.contract.signing import Signer
from router.model.secret import Secret
from tests.support.receivers import GOOD, SECRET, Right, answering, is_signed


def refusing(fault: Callable[[dict[str, Any]], object], status: int = 400) -> type[Right]:
    """Return a receiver that refuses events with a fault, and crashes if `fault` raises."""

    class Refusing(Right):
        def take(self, headers: dict[str, str], event: dict[str, Any]) -> tuple[int, Any]:
            try:
                wrong = fault(event)
            except (KeyError, ValueError, AttributeError):
                return 500, b"oops"
            return (status, {"code": str(status)}) if wrong else (200, GOOD)

    return Refusing


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
    """Reject old timestamps, but accept future ones."""
    at = float(headers["webhook-timestamp"])
    return time.time() - at < 300 and is_signed(headers, body, at)


def crashing(field: str) -> type[Right]:
    """Return a receiver that crashes at an event with an empty field."""

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
        status, answer = super().judge(headers, body)
        is_json = headers["content-type"] == "application/json"
        return (500, b"oops") if status == 400 and is_json else (status, answer)


class RefusesUnread(Right):
    """Refuses a request by its head, and leaves its body unread on the connection."""

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        if self.headers["content-length"] == "15":
            self.answer(400, b"{}")
        else:
            super().do_POST()


class Short(Right):
    """Announces more bytes than it sends."""

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content) + 9))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True


#: The receiver, the check that finds its fault, the router's reason for such an answer, if any, and
#: a word of the advice.
FAULTS: dict[str, tuple[type[Right], str, str | None, str]] = {
    "redirects": (answering(b"", 308, ("location", "/x/")), "answers", "redirect", "slash"),
    "says ok": (answering(b"ok"), "answers", "not_json", "one JSON object"),
    "code is a number": (answering({"code": 0}), "answers", "code", "string"),
    "another code": (answering({"code": "200"}), "answers", "code", "000"),
    "no body": (answering(b""), "answers", "empty", "acknowledge: status"),
    "wrong path": (answering(GOOD, 404), "answers", "status", "path"),
    "a status": (answering(GOOD, 500), "answers", "status", "log"),
    "compresses": (
        answering(gzip.compress(b'{"code":"000"}'), 200, ("content-encoding", "gzip")),
        "answers", "encoded", "compress",
    ),
    "says too much": (answering({"code": "000", "msg": "x" * 70000}), "answers", "too_large", "64"),
    "short": (Short, "answers", "reset", "content-length"),
    "slow now and then": (SometimesSlow, "timing", "timeout", "afterwards"),
    "refuses the second time": (SecondTimeRefused, "twice", "status", "processed before"),
    "wants changes": (refusing(lambda e: not e["changes"]), "no-changes", "status", "to be empty"),
    "wants a key": (refusing(lambda e: not e["event_key"].split()), "no-key", "status", "optional"),
    "crashes without changes": (crashing("changes"), "no-changes", "reset", "to be empty"),
    "crashes without a key": (crashing("event_key"), "no-key", "reset", "as optional"),
    "knows all fields": (refusing(lambda e: "tenant" in e), "unknown-fields", "status", "ignore"),
    "ASCII alone": (
        refusing(lambda e: e["event_type"].encode("ascii") and None), "scripts", "status", "UTF-8",
    ),
    "few ids": (refusing(lambda e: len(e["changes"]) == 1000), "many-ids", "status", "any length"),
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
