"""`receive`: a stand-in receiver that prints each request."""

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
from router.config.settings import parse_count, parse_host, parse_port
from router.contract.schedule import parse_duration
from router.model.event import SUCCESS
from router.telemetry.log.lines import stamp

if TYPE_CHECKING:
    from router.cli.trying.standin import Distrust, Received

HELP = Help(
    about="""Plays a business endpoint: answers every POST of JSON, on any path, with the contract's
    reply, and prints one line for each request. By default it acknowledges; --code and --status
    make it refuse, --delay makes it slow, --fail-first and --fail-rate make some requests fail with
    code 500. With --verify a request must be signed (Standard Webhooks): otherwise it is answered
    with 401, and its line says why. Ctrl-C ends it.""",
    examples=(
        "ebaas-router receive",
        "ebaas-router receive --port 9002 --delay 7s     # too slow for most timeouts",
        "ebaas-router receive --fail-first 2             # healthy from the third request on",
        "ebaas-router receive --fail-rate 0.2 --seed 1   # the same failures every time",
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
    _add_answer(parser.add_argument_group("the answer"))
    _add_failures(parser.add_argument_group("failures, with code and status 500"))
    signatures = parser.add_argument_group("signatures")
    signatures.add_argument(
        "--verify",
        action="append",
        metavar="SECRET",
        help="verify them with this secret, which may be ${NAME} or ${file:NAME}, as in "
        "routes.yaml; repeat it for two valid secrets",
    )
    add_settings(parser, "secrets_dir")
    add_format(parser, about="of the lines; json adds headers and body (default text)")


def _add_answer(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--code", type=value(parse_code), default=SUCCESS, help="the contract's code (default 000)"
    )
    group.add_argument("--msg", default="", help="its message (default the platform page's)")
    group.add_argument(
        "--status", type=value(parse_status), default="200", help="the HTTP status (default 200)"
    )
    about = "how long each answer takes (default 0s)"
    group.add_argument(
        "--delay", type=value(parse_duration), default="0s", metavar="TIME", help=about
    )


def _add_failures(group: argparse._ArgumentGroup) -> None:
    count, share = value(parse_count), value(parse_share)
    about = "of a random share, 0 to 1 (default 0)"
    group.add_argument("--fail-first", type=count, default=0, metavar="N", help="of the first N")
    group.add_argument("--fail-rate", type=share, default="0", metavar="SHARE", help=about)
    group.add_argument("--seed", type=count, metavar="N", help="makes the share repeatable")


def run(args: argparse.Namespace) -> int:
    # Ctrl-C before the server handles it.
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
    failures: list[OSError] = []

    def show(received: Received) -> None:
        try:
            say_as(args.format, map(_as_json, [received]), map(_as_text, [received]))
        except OSError as error:  # the reader of stdout has gone
            failures.append(error)
            server.stop()

    names = ("code", "status", "msg", "delay", "fail_first", "fail_rate", "seed")
    chosen = {name: getattr(args, name) for name in names}
    stand_in = StandIn(**chosen, distrust=_distrust(args), on_request=show)

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


def _distrust(args: argparse.Namespace) -> Distrust | None:
    if not args.verify:
        return None
    from router.contract.signing import Signer

    signer = Signer(read_secrets("--verify", args.verify, read_setting(args, "secrets_dir")))
    return lambda headers, body: signer.why_not(headers, body, time.time())


def _as_text(received: Received) -> str:
    key = received.event_key or "(no event_key)"
    webhook_id = received.headers.get("webhook-id") or "none"
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
