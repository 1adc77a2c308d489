"""`receive`: a stand-in for a business endpoint, with chosen answers, delays and failures."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from router.cli.options import Exit, Help, Options, Parser, matching, read_setting
from router.cli.printing import note, say_as
from router.cli.send import read_event, read_secrets
from router.config.settings import parse_count, parse_host, parse_port
from router.contract.replies import (
    ACKNOWLEDGED,
    FAILED,
    WRONG_METHOD,
    Reply,
    body_of,
    refusal,
    request_id_from,
)
from router.contract.schedule import parse_duration
from router.model.event import SUCCESS
from router.telemetry.log.lines import stamp

RECEIVE = Help(
    about="""Plays a business endpoint: answers every POST of JSON, on any path, with the contract's
    reply, and prints one line for each request. By default it acknowledges; --code and --status
    make it refuse, --delay makes it slow, --fail-first makes the first requests fail with code 500.
    With --verify a request must be signed (Standard Webhooks): otherwise it is answered with 401,
    and its line says why. Ctrl-C ends it.""",
    examples="""
        ebaas-router receive
        ebaas-router receive --fail-first 2             # healthy from the third request on
        ebaas-router receive --verify '${LEDGER_SECRET}'""",
    good="ended by Ctrl-C",
    not_started="could not start: the port is taken",
)

#: HTTP statuses whose answers have no body.
_BODILESS = frozenset({204, 205, 304})

_NOT_JSON = Reply("400", "请求体应为JSON")
_NOT_TRUSTED = Reply("401", "签名无效")

#: Returns why a request with these headers and this body is not trusted; `""` if it is.
Distrust = Callable[[Mapping[str, str], bytes], str]


parse_code = matching(".{1,64}", "a code (1 to 64 characters)")
parse_status = matching("[2-5][0-9][0-9]", "an HTTP status (200 to 599)", int)


def configure_receive(parser: Parser) -> None:
    def add(group: Options, name: str, word: str, about: str, parse: Any, default: str) -> None:
        more = f"{about} (default {default})".strip()
        group.option(name, word, more, parse, default=default)

    where = parser.group("where")
    add(where, "--host", "HOST", "", parse_host, "127.0.0.1")
    add(where, "--port", "PORT", "0 takes any free one", parse_port, "9001")
    answer = parser.group("the answer")
    add(answer, "--code", "CODE", "the contract's code", parse_code, SUCCESS)
    add(answer, "--status", "STATUS", "the HTTP status", parse_status, "200")
    add(answer, "--delay", "TIME", "how long each answer takes", parse_duration, "0s")
    about = "let the first N requests fail with code and status 500"
    answer.option("--fail-first", "N", about, parse_count, default=0)
    about = "verify signatures with this secret, which may be ${NAME} or ${file:NAME}, as in "
    about += "routes.yaml; two secrets are both valid"
    parser.option("--verify", "SECRET", about, many=True)
    parser.settings("secrets_dir")
    parser.format(about="of the lines; json adds headers and body (default text)")


def run_receive(args: argparse.Namespace) -> int:
    # Ctrl-C before the server handles it.
    with contextlib.suppress(KeyboardInterrupt):
        _serve(args)
    return Exit.GOOD


def _serve(args: argparse.Namespace) -> None:
    from router.contract.signing import Signer
    from router.net.listening import listen
    from router.process.running import run
    from router.process.server import Server
    from router.telemetry.log import Log
    from router.telemetry.log.foreign import take_library_lines

    take_library_lines(Log(sys.stderr))
    failures: list[OSError] = []

    def show(received: Received) -> None:
        try:
            say_as(args.format, map(_as_json, [received]), map(_as_text, [received]))
        except OSError as error:  # the reader of stdout has gone
            failures.append(error)
            server.stop()

    chosen = {name: getattr(args, name) for name in ("code", "status", "delay", "fail_first")}
    distrust: Distrust | None = None
    if args.verify:
        signer = Signer(read_secrets("--verify", args.verify, read_setting(args, "secrets_dir")))
        distrust = lambda headers, body: signer.why_not(headers, body, time.time())  # noqa: E731
    stand_in = StandIn(**chosen, distrust=distrust, on_request=show)

    def refuse(status: int, given: bytes | None) -> tuple[bytes, bytes]:
        note(f"refused a request with HTTP {status}")
        return refusal(status, given)

    server = Server(stand_in, listen(args.host, args.port), refusal=refuse)

    async def announce() -> None:
        note(f"receiving on {server.url}, any path; Ctrl-C ends it")

    run(server, then=announce)
    if failures:
        raise failures[0]
    codes = ", ".join(f"{code} {times}" for code, times in stand_in.answered.items()) or "none"
    note(f"requests received: {stand_in.answered.total()}; answered: {codes}")


def _as_text(received: Received) -> str:
    key = received.event_key or "(no event_key)"
    headers = received.headers
    webhook_id = headers.get("webhook-id") or "none"
    if "x-ebaas-attempt" in headers:
        cause, first_at = headers.get("x-ebaas-cause"), headers.get("x-ebaas-first-at")
        webhook_id += f", attempt {headers['x-ebaas-attempt']} ({cause}, first at {first_at})"
    trust = {None: "", "": "  signature valid"}
    why = trust.get(received.distrusted, f"  not trusted: {received.distrusted}")
    return (
        f"{stamp(time.time())}  {received.method} {received.path}  {key}  "
        f"{len(received.body)} bytes  webhook-id {webhook_id}  "
        f"-> {received.status} {received.code}{why}"
    )


def _as_json(received: Received) -> dict[str, Any]:
    return {
        "time": stamp(time.time()),
        "method": received.method,
        "path": received.path,
        "event_key": received.event_key or None,
        "webhook_id": received.headers.get("webhook-id") or None,
        "bytes": len(received.body),
        "status": received.status,
        "code": received.code,
        **({} if received.distrusted is None else {"distrusted": received.distrusted or None}),
        "headers": received.headers,
        "body": received.body.decode("utf-8", "replace"),
    }


@dataclass(frozen=True, slots=True)
class Received:
    """A request and its answer."""

    method: str
    path: str
    #: By name in lower case; several headers of one name are joined.
    headers: Mapping[str, str]
    body: bytes
    #: Given or derived; `""` if there is none.
    event_key: str
    status: int
    code: str
    #: The reason for distrust, `""` if it is trusted; None if signatures are not verified.
    distrusted: str | None = None


class StandIn:
    """An ASGI application that answers every POST of JSON, on any path.

    It does not validate events against the contract.
    """

    def __init__(
        self,
        *,
        code: str = SUCCESS,
        status: int = 200,
        delay: float = 0.0,
        fail_first: int = 0,
        distrust: Distrust | None = None,
        on_request: Callable[[Received], None] = lambda _: None,
    ) -> None:
        """The first `fail_first` requests fail with code and status 500. `on_request` is called
        before the `delay`, which is in seconds."""
        self._reply = Reply(code, (ACKNOWLEDGED if code == SUCCESS else FAILED).msg)
        self._status = status
        self._delay = delay
        self._failures_left = fail_first
        #: The number of requests with a body that are still to fail.
        self._failing: Counter[bytes] = Counter()
        self._distrust = distrust
        self._on_request = on_request
        #: The number of answers by code, and by the status if it disagrees with the code.
        self.answered: Counter[str] = Counter()

    def fail(self, body: bytes, times: int) -> None:
        """Fail the next so many requests with this body."""
        self._failing[body] += times

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            before = headers.get(name.decode("latin-1"))
            text = value.decode("latin-1")
            headers[name.decode("latin-1")] = text if before is None else f"{before}, {text}"
        status, answer = self._answer(scope["method"], scope["path"], headers, body)
        await asyncio.sleep(self._delay)
        kind = [] if status in _BODILESS else [(b"content-type", b"application/json")]
        length = [(b"content-length", b"%d" % len(answer))] if kind else []
        await send({"type": "http.response.start", "status": status, "headers": [*kind, *length]})
        await send({"type": "http.response.body", "body": answer if kind else b""})

    def _answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        is_json, event_key = read_event(body)
        distrusted = None if self._distrust is None else self._distrust(headers, body)
        reply, status = self._decide(method, body, is_json, distrusted)
        agrees = (reply.code == SUCCESS) == (status < 300)
        self.answered[reply.code if agrees else f"{reply.code} with HTTP {status}"] += 1
        self._on_request(
            Received(method, path, headers, body, event_key, status, reply.code, distrusted)
        )
        request_id = request_id_from(headers.get("x-request-id", "").encode("latin-1"))
        return status, body_of(reply, request_id)

    def _decide(
        self, method: str, body: bytes, is_json: bool, distrusted: str | None
    ) -> tuple[Reply, int]:
        """Return the reply and its HTTP status."""
        if method != "POST":
            return WRONG_METHOD, WRONG_METHOD.status
        if distrusted:
            return _NOT_TRUSTED, _NOT_TRUSTED.status
        if not is_json:
            return _NOT_JSON, _NOT_JSON.status
        if self._fails(body):
            return FAILED, FAILED.status
        return self._reply, self._status

    def _fails(self, body: bytes) -> bool:
        if self._failing[body] > 0:
            self._failing[body] -= 1
            return True
        self._failures_left -= 1
        return self._failures_left >= 0
