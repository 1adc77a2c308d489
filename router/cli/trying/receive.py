"""`receive`: a stand-in receiver that prints what it gets."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from router.cli.options import (
    GOOD,
    NOT_STARTED,
    Help,
    add_format,
    add_settings,
    read_setting,
    value,
)
from router.cli.printing import note, say_as
from router.cli.trying.request import read_secrets
from router.cli.trying.standin import Received
from router.cli.wording import Table, Wording, add_language, read_language
from router.config.settings import parse_count, parse_host, parse_port
from router.contract.schedule import parse_duration
from router.model.event import SUCCESS
from router.telemetry.log.lines import stamp

if TYPE_CHECKING:
    from router.cli.trying.standin import Distrust
    from router.process.server import Server


HELP = Help(
    about="""Plays a business endpoint: answers every POST of JSON, on any path, with the contract's
    reply, and prints one line for each request. By default it acknowledges; --code and --status
    make it refuse, --delay makes it slow, --fail-first and --fail-rate make it fail now and then
    with code 500. With --verify a request has to be signed (Standard Webhooks): one that is not is
    answered with 401, and its line says why. It goes on until Ctrl-C.""",
    examples=(
        "ebaas-router receive",
        "ebaas-router receive --port 9002 --delay 7s     # too slow for most timeouts",
        "ebaas-router receive --fail-first 2             # healthy from the third request on",
        "ebaas-router receive --fail-rate 0.2 --seed 1   # the same luck every time",
        "ebaas-router receive --verify '${LEDGER_SECRET}'",
        "ebaas-router receive --format json | jq .headers",
    ),
    exit_codes={GOOD: "ended by Ctrl-C", NOT_STARTED: "could not start: the port is taken"},
)


def parse_code(text: str) -> str:
    if not 1 <= len(text) <= 64:
        raise ValueError(f"{text!r} is not a code (1 to 64 characters)")
    return text


def parse_status(text: str) -> int:
    if not re.fullmatch("[2-5][0-9][0-9]", text):
        raise ValueError(f"{text!r} is not an HTTP status (200 to 599)")
    return int(text)


def parse_share(text: str) -> float:
    if not re.fullmatch(r"0|1|[01]?\.[0-9]{1,9}", text) or float(text) > 1:
        raise ValueError(f"{text!r} is not a share (0 to 1, like 0.2)")
    return float(text)


def configure(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where")
    where.add_argument(
        "--host", type=value(parse_host), default="127.0.0.1", help="(default 127.0.0.1)"
    )
    where.add_argument(
        "--port", type=value(parse_port), default="9001", help="0 takes any free one (default 9001)"
    )
    _add_answer(parser)
    _add_failures(parser)
    _add_verify(parser)
    about = "of the lines; json has the headers and the body too (default text)"
    add_format(parser, about=about)
    add_language(parser)


def _add_answer(parser: argparse.ArgumentParser) -> None:
    answer = parser.add_argument_group("the answer")
    answer.add_argument(
        "--code", type=value(parse_code), default=SUCCESS, help="the contract's code (default 000)"
    )
    answer.add_argument("--msg", default="", help="its message (default the platform page's)")
    answer.add_argument(
        "--status", type=value(parse_status), default="200", help="the HTTP status (default 200)"
    )
    answer.add_argument(
        "--delay",
        type=value(parse_duration),
        default="0s",
        metavar="TIME",
        help="how long each answer takes (default 0s)",
    )


def _add_failures(parser: argparse.ArgumentParser) -> None:
    failures = parser.add_argument_group("failures, with code and status 500")
    failures.add_argument(
        "--fail-first", type=value(parse_count), default=0, metavar="N", help="of the first N"
    )
    failures.add_argument(
        "--fail-rate",
        type=value(parse_share),
        default="0",
        metavar="SHARE",
        help="of a random share, 0 to 1 (default 0)",
    )
    failures.add_argument(
        "--seed", type=value(parse_count), metavar="N", help="makes the random ones repeatable"
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    signatures = parser.add_argument_group("signatures")
    signatures.add_argument(
        "--verify",
        action="append",
        metavar="SECRET",
        help="check them by this secret, written as in routes.yaml: whsec_…, or ${NAME} and "
        "${file:NAME} that keep it out of the command line; twice for two that may be right",
    )
    add_settings(parser, "secrets_dir")


def run(args: argparse.Namespace) -> int:
    # Ctrl-C before the server is up; afterwards it is the server's.
    with contextlib.suppress(KeyboardInterrupt):
        _serve(args)
    return GOOD


def _serve(args: argparse.Namespace) -> None:
    from router.cli.trying.standin import StandIn
    from router.contract.replies import refusal
    from router.net.listening import listen
    from router.process.running import run
    from router.process.server import Server
    from router.telemetry.log import Log
    from router.telemetry.log.foreign import take_library_lines

    take_library_lines(Log(sys.stderr))
    words = Wording(RECEIVE_WORDS, read_language(args))
    printer = ReceivedPrinter(args.format, words)
    stand_in = StandIn(
        code=args.code,
        status=args.status,
        msg=args.msg,
        delay=args.delay,
        fail_first=args.fail_first,
        fail_rate=args.fail_rate,
        seed=args.seed,
        distrust=_distrust(args),
        on_request=printer.show,
    )

    def refuse(status: int, given: bytes | None) -> tuple[bytes, bytes]:
        note(words("refused", status=str(status)))
        return refusal(status, given)

    server = printer.server = Server(stand_in, listen(args.host, args.port), refusal=refuse)

    async def announce() -> None:
        note(words("receiving", url=server.url))

    run(server, then=announce)
    codes = ", ".join(f"{code} {times}" for code, times in stand_in.answered.items())
    if printer.failure is not None:
        raise printer.failure
    number = stand_in.answered.total()
    note(words("received", number=number, codes=codes or words("none")))


def _distrust(args: argparse.Namespace) -> Distrust | None:
    """What says whether a request is signed by one of the secrets; None where there are none."""
    if not args.verify:
        return None
    from router.contract.signing import Signer

    signer = Signer(read_secrets("--verify", args.verify, read_setting(args, "secrets_dir")))
    return lambda headers, body: signer.why_not(headers, body, time.time())


RECEIVE_WORDS: Table = {
    "receiving": (
        "receiving on {url}, any path; Ctrl-C ends it",
        "正在 {url} 接收请求，路径不限；Ctrl-C 结束",
    ),
    "received": (
        "received {number} {number|request|requests}; answered: {codes}",
        "共收到 {number} 个请求；返回码：{codes}",
    ),
    "refused": ("refused a request with HTTP {status}", "拒绝了一个请求：HTTP {status}"),
    "none": ("none", "无"),
    "no key": ("(no event_key)", "（无 event_key）"),
    "bytes": ("{number} bytes", "{number} 字节"),
    "trusted": ("signature right", "签名正确"),
    "distrusted": ("not trusted: {why}", "不可信：{why}"),
    # As Signer.why_not has them.
    "why.absent": ("there is no {header}", "没有 {header}"),
    "why.no time": ("webhook-timestamp is no Unix time", "webhook-timestamp 不是 Unix 时间"),
    "why.old": (
        "webhook-timestamp is {seconds} s old, {most} are allowed",
        "webhook-timestamp 是 {seconds} 秒之前的，最多允许 {most} 秒",
    ),
    "why.ahead": (
        "webhook-timestamp is {seconds} s ahead of this clock, {most} are allowed",
        "webhook-timestamp 比本机时钟快 {seconds} 秒，最多允许 {most} 秒",
    ),
    "why.wrong": (
        "no signature is right: another secret, or a changed body",
        "没有一个签名正确：密钥不同，或请求体被改动",
    ),
}


class ReceivedPrinter:
    """Prints each request, and stops the server once nobody reads that any more."""

    def __init__(self, format: str, words: Wording) -> None:
        self._format = format
        self._words = words
        self.server: Server | None = None
        #: Why nothing can be printed any more.
        self.failure: OSError | None = None

    def show(self, received: Received) -> None:
        try:
            say_as(self._format, map(_as_json, [received]), map(self._line, [received]))
        except OSError as error:
            self.failure = error
            if self.server is not None:
                self.server.stop()

    def _line(self, received: Received) -> str:
        words = self._words
        key = received.event_key or words("no key")
        webhook_id = received.headers.get("webhook-id") or words("none")
        size = words("bytes", number=str(len(received.body)))
        return (
            f"{stamp(time.time())}  {received.method} {received.path}  {key}  {size}  "
            f"webhook-id {webhook_id}  -> {received.status} {received.code}{self._trust(received)}"
        )

    def _trust(self, received: Received) -> str:
        if received.distrusted is None:
            return ""
        if not received.distrusted:
            return f"  {self._words('trusted')}"
        return f"  {self._words('distrusted', why=self._words.of(received.distrusted))}"


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
