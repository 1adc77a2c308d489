"""How commands reach a router: its address, whom they trust, and the one question of `health`.

Containers ask `health` often: nothing here imports httpx, which takes longer than the question.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from router.cli.options import AFAR, read_setting, value
from router.cli.printing import told_while_slow
from router.config.settings import VARIABLE_PREFIX, parse_file
from router.model.errors import RouterError, SettingInvalid, why_not
from router.net.tls import USUAL, BadCertificate, Tls, certificates_in

#: The variables that name a router and the file of a token for it.
URL_VARIABLE, TOKEN_VARIABLE = (VARIABLE_PREFIX + name for name in AFAR)

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}

#: The options that mean nothing where a URL names the router, and why.
_HERE = {
    **dict.fromkeys(
        ("store", "archive", "config", "schema", "secrets_dir"),
        "that is the router's own",
    ),
    **dict.fromkeys(("host", "port", "tls_cert"), "both say where it is"),
    "who": "who acts is the token's name",
}


class RemoteProblem(RouterError):
    """What the router answered in place of what was asked for, in its own words; or why no answer
    came."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        #: 0 where no answer came.
        self.status = status


def own_url(args: argparse.Namespace, host: str, port: str, scheme: str = "http") -> str:
    """Where a `serve` with these settings listens."""
    at = read_setting(args, host)
    at = _EVERY_ADDRESS.get(at, at)
    number = read_setting(args, port)
    return f"{scheme}://[{at}]:{number}" if ":" in at else f"{scheme}://{at}:{number}"


def refuse_here(args: argparse.Namespace, named_by: str = "--url") -> None:
    """Raises SettingInvalid for an option that means nothing to a running router."""
    # Secrets that sign what this command itself sends are of this machine.
    own = {"secrets_dir"} if getattr(args, "sign", None) is not None else set()
    for name, why in _HERE.items():
        if name not in own and getattr(args, name, None) is not None:
            option = "--as" if name == "who" else f"--{name.replace('_', '-')}"
            raise SettingInvalid(f"{option} can't be given with {named_by}: {why}")


def ask(
    url: str, path: str, timeout: float, context: ssl.SSLContext | None, most: int
) -> tuple[int, bytes]:
    """The status and at most so many bytes of the answer; the URL's own path counts, if it has one.

    Raises RemoteProblem.
    """
    parts = urlsplit(url)
    own = parts.path if parts.path not in ("", "/") else path
    try:
        with (
            told_while_slow(url),
            _deadline(timeout),
            contextlib.closing(_connection(url, context)) as connection,
        ):
            connection.request("GET", own)
            answer = connection.getresponse()
            return answer.status, answer.read(most)
    except TimeoutError:
        raise no_answer(url, timeout) from None
    except (OSError, http.client.HTTPException) as error:
        raise RemoteProblem(f"{url}: {why_unreachable(error)}") from None


def _connection(url: str, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context)
    return http.client.HTTPConnection(parts.hostname or "", parts.port)


def no_answer(url: str, timeout: float) -> RemoteProblem:
    return RemoteProblem(f"no answer from {url} within {timeout:g} s")


def why_unreachable(error: BaseException) -> str:
    """Why a connection failed, by its own exception."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "what answers there does not speak TLS"
    if isinstance(error, OSError):
        if error.errno is not None and error.errno > 0:
            return os.strerror(error.errno)
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


def add_ca(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The option that `trust` reads."""
    parser.add_argument(
        "--ca",
        type=value(parse_file),
        metavar="FILE",
        help="for an https URL: trust whom these certificates (PEM) vouch for, and nobody else "
        "(default whom the system trusts)",
    )


def context_of(url: str, args: argparse.Namespace) -> ssl.SSLContext | None:
    """What connections to an https URL are made with, and None for http. Raises SettingInvalid for
    a file of no use, also where none is needed."""
    whom = trust(args)
    return whom.trust if urlsplit(url).scheme == "https" else None


def trust(args: argparse.Namespace) -> Tls:
    """Raises SettingInvalid for a file of no use."""
    path: Path | None = args.ca
    if path is None:
        return USUAL
    try:
        ca = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problem = f"--ca: {str(path)!r} can't be read: {why_not(path, error)}"
        raise SettingInvalid(problem) from None
    if not certificates_in(ca):
        raise SettingInvalid(f"--ca: {str(path)!r} has no certificate in PEM in it")
    try:
        return Tls.of(ca)
    except BadCertificate as error:
        raise SettingInvalid(f"--ca: {str(path)!r}: {error}") from None
