"""`health`: asks a running router whether it is ready. Starts fast, for containers ask often."""

from __future__ import annotations

import argparse
import ssl
from functools import partial
from urllib.parse import urlsplit

from router.cli.asking import RemoteProblem, add_ca, ask, context_of, own_url, refuse_here
from router.cli.options import (
    BAD,
    GOOD,
    Help,
    add_settings,
    add_timeout,
    parse_url,
    read_setting,
    value,
)
from router.cli.printing import say
from router.contract.strictjson import ANSWER, Unreadable, parse_json
from router.model.errors import SettingInvalid
from router.model.event import SUCCESS

HELP = Help(
    about="""Asks a running router's /readyz and prints one line. Ready means: the configuration is
    loaded, the store has been opened, and the router is not stopping. It says nothing about the
    business endpoints. Without options it asks where a `serve` with the same variables listens, by
    TLS where that has a certificate, which makes it a container's HEALTHCHECK as it is.""",
    examples=(
        "ebaas-router health",
        "ebaas-router health --port 9000 --timeout 500ms",
        "ebaas-router health --url http://router.internal:8080",
        "ebaas-router health --url https://router.internal:8443 --ca ca.pem",
    ),
    exit_codes={GOOD: "ready", BAD: "not ready, or not reachable"},
)

#: The most that is read of an answer, in bytes; the router's own are under 200.
_MAX_ANSWER = 64 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        type=value(partial(parse_url, like="http://127.0.0.1:8080")),
        help="the router's address, instead of --host and --port",
    )
    add_timeout(parser, "the whole question", "2s")
    add_settings(
        parser,
        host="the address where it listens",
        port="the port where it listens",
        tls_cert="ask by TLS, as the router that has this certificate wants it; the file is not "
        "read and the certificate not verified, which takes --url, and --ca where it is needed",
    )
    add_ca(parser)


def run(args: argparse.Namespace) -> int:
    if args.url is None:
        if args.ca is not None:
            raise SettingInvalid("--ca is for a router that --url names")
        url = _own_url(args)
        context = _no_questions() if urlsplit(url).scheme == "https" else None
    else:
        refuse_here(args)
        url, context = args.url, context_of(args.url, args)
    try:
        status, body = ask(url, "/readyz", args.timeout, context, _MAX_ANSWER)
    except RemoteProblem as error:
        say(f"not reachable: {error}")
        return BAD
    if status == 404:
        say(f"not ready: {url} has no /readyz (HTTP 404): it is for the callback port")
        return BAD
    code, msg = _reply(body)
    if status == 200 and code != SUCCESS:
        say(f"not ready: what answers at {url} is not the router")
        return BAD
    say("ready" if status == 200 else f"not ready: HTTP {status} {msg}".rstrip())
    return GOOD if status == 200 else BAD


def _own_url(args: argparse.Namespace) -> str:
    scheme = "http" if read_setting(args, "tls_cert") is None else "https"
    return own_url(args, "host", "port", scheme)


def _no_questions() -> ssl.SSLContext:
    """For this machine's own router: its certificate is for another name, and it is told nothing
    that is a secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reply(body: bytes) -> tuple[str, str]:
    """The code and the message, where it is the contract's."""
    try:
        reply = parse_json(body, ANSWER)
        return str(reply["code"]), str(reply["msg"])
    except (Unreadable, LookupError, TypeError):
        return "", ""
