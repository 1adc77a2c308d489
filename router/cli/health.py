"""`health`: asks a running router whether it is ready. Starts fast, for containers ask often."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import signal
import ssl
from collections.abc import Iterator
from functools import partial
from typing import NoReturn
from urllib.parse import urlsplit

from router.cli.options import Exit, Help, Parser, parse_url, read_setting
from router.cli.printing import say
from router.cli.remote import (
    RemoteProblem,
    add_ca,
    no_response,
    own_url,
    refuse_local,
    why_unreachable,
)
from router.contract.strictjson import ANSWER, Unreadable, parse_json
from router.model.errors import SettingInvalid
from router.model.event import SUCCESS
from router.net.tls import USUAL, Tls

HEALTH = Help(
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
    exit_codes={Exit.GOOD: "ready", Exit.BAD: "not ready, or not reachable"},
)

#: The largest response that is read, in bytes; the router's own are under 200.
_MAX_RESPONSE = 64 * 1024


def configure_health(parser: Parser) -> None:
    parse = partial(parse_url, like="http://127.0.0.1:8080")
    parser.option("--url", "URL", "the router's address, instead of --host and --port", parse)
    parser.timeout("the whole question", "2s")
    parser.settings(
        host="the address where it listens",
        port="the port where it listens",
        tls_cert="ask by TLS, as the router that has this certificate wants it; the file is not "
        "read and the certificate not verified, which takes --url, and --ca where it is needed",
    )
    add_ca(parser)


def run_health(args: argparse.Namespace) -> int:
    if args.url is None:
        if args.ca is not USUAL:
            raise SettingInvalid("--ca is for a router that --url names")
        is_tls = read_setting(args, "tls_cert") is not None
        url = own_url(args, "host", "port", "https" if is_tls else "http")
        # The certificate is for another name than this machine's, and the router gets no secret.
        context = Tls.of(verify=False).trust if is_tls else None
    else:
        refuse_local(args)
        url, context = args.url, args.ca.trust
    try:
        status, body = _response(url, args.timeout, context)
    except RemoteProblem as error:
        say(f"not reachable: {error}")
        return Exit.BAD
    why = _why_not_ready(url, status, body)
    say(f"not ready: {why}" if why else "ready")
    return Exit.BAD if why else Exit.GOOD


def _why_not_ready(url: str, status: int, body: bytes) -> str:
    if status == 404:
        return f"{url} has no /readyz (HTTP 404): it is for the callback port"
    code = msg = ""
    with contextlib.suppress(Unreadable, LookupError, TypeError):
        reply = parse_json(body, ANSWER)
        code, msg = str(reply["code"]), str(reply["msg"])
    if status == 200:
        return "" if code == SUCCESS else f"the server at {url} is not the router"
    return f"HTTP {status} {msg}".rstrip()


def _response(url: str, timeout: float, context: ssl.SSLContext | None) -> tuple[int, bytes]:
    """Return status and body; a path in the URL takes the place of /readyz. Raises
    RemoteProblem."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port)
    )
    try:
        with _deadline(timeout), contextlib.closing(connection):
            connection.request("GET", parts.path if parts.path not in ("", "/") else "/readyz")
            response = connection.getresponse()
            return response.status, response.read(_MAX_RESPONSE)
    except TimeoutError:
        raise no_response(url, timeout) from None
    except (OSError, http.client.HTTPException) as error:
        raise RemoteProblem(f"{url}: {why_unreachable(error)}") from None


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block once the time is over. A socket's own timeout starts anew
    with each part of a response, and does not cover the lookup of a name."""

    def expire(*_: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
