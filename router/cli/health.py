"""`health`: asks a running router whether it is ready. Starts fast, for containers ask often."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import ssl
from collections.abc import Iterator
from typing import NoReturn
from urllib.parse import urlsplit

from router.cli.options import BAD, GOOD, Help, add_settings, parse_url, read_setting, value
from router.cli.printing import say
from router.cli.trust import add_ca, trust
from router.config.settings import SETTINGS
from router.contract.schedule import parse_duration
from router.model.event import SUCCESS

SUMMARY = "ask a running router whether it is ready"

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

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    parser.add_argument(
        "--url", type=value(parse_url), help="the router's address, instead of --host and --port"
    )
    add_settings(parser, "host", "port")
    parser.add_argument(
        "--tls-cert",
        metavar="FILE",
        help="ask by TLS, as the router that has this certificate wants it; the file is not read "
        "and the certificate not verified, which takes --url, and --ca where it is needed "
        f"(default none; {SETTINGS['tls_cert'].variable})",
    )
    add_ca(parser)
    parser.add_argument(
        "--timeout",
        type=value(parse_duration),
        default="2s",
        metavar="TIME",
        help="how long the whole question may take (default 2s)",
    )


def run(args: argparse.Namespace) -> int:
    url = args.url or _own_url(args)
    context = None
    if urlsplit(url).scheme == "https":
        context = trust(args).trust if args.url else _no_questions()
    try:
        with _deadline(args.timeout):
            status, code, msg = _ask(url, context)
    except TimeoutError:
        say(f"not reachable: no answer from {url} within {args.timeout:g} s")
        return BAD
    except (OSError, http.client.HTTPException) as error:
        say(f"not reachable: {url}: {_why(error)}")
        return BAD
    if status == 200 and code != SUCCESS:
        say(f"not ready: what answers at {url} is not the router")
        return BAD
    say("ready" if status == 200 else f"not ready: HTTP {status} {msg}".rstrip())
    return GOOD if status == 200 else BAD


def _own_url(args: argparse.Namespace) -> str:
    """Where a `serve` with these settings listens."""
    host = read_setting(args, "host")
    host = _EVERY_ADDRESS.get(host, host)
    port = read_setting(args, "port")
    scheme = "http" if read_setting(args, "tls_cert") is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _no_questions() -> ssl.SSLContext:
    """For this machine's own router: its certificate is for another name, and it is told nothing
    that is a secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ask(url: str, context: ssl.SSLContext | None) -> tuple[int, str, str]:
    """The status of /readyz; and the code and the message where the answer is the contract's."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port)
    )
    try:
        connection.request("GET", parts.path if parts.path not in ("", "/") else "/readyz")
        answer = connection.getresponse()
        return answer.status, *_reply(answer.read(_MAX_ANSWER))
    finally:
        connection.close()


def _reply(body: bytes) -> tuple[str, str]:
    try:
        reply = json.loads(body)
        return str(reply["code"]), str(reply["msg"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return "", ""


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "what answers there does not speak TLS"
    if isinstance(error, OSError):
        return error.strerror or "the connection failed"
    return "what answers there is no HTTP server"


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """TimeoutError once the time is over, whatever the main thread waits for by then.

    A socket's own timeout would start anew with every byte that drips in.
    """

    def ring(*_: object) -> NoReturn:
        raise TimeoutError

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
