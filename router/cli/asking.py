"""One question to a running router, within its time. Starts fast, for containers ask often."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import signal
import ssl
from collections.abc import Iterator, Mapping
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from router.cli.options import read_setting
from router.cli.printing import told_while_slow
from router.model.errors import RouterError

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Answered(NamedTuple):
    """What came back."""

    status: int
    content: bytes
    #: When, by the clock of who answered; `""` where that is not said.
    date: str


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


def ask(
    url: str,
    path: str,
    timeout: float,
    context: ssl.SSLContext | None,
    most: int,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answered:
    """With at most so many bytes of the answer; the URL's own path counts, if it has one. With a
    body it is a POST.

    Raises RemoteProblem.
    """
    with answering(url, timeout), told_while_slow(url), _deadline(timeout):
        parts = urlsplit(url)
        own = parts.path if parts.path not in ("", "/") else path
        method = "GET" if body is None else "POST"
        with contextlib.closing(connect(url, context)) as connection:
            connection.request(method, own, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answered(answer.status, answer.read(most), answer.getheader("date", ""))


def connect(
    url: str, context: ssl.SSLContext | None, timeout: float | None = None
) -> http.client.HTTPConnection:
    """What is to be connected, each step within the time, in seconds."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, context=context, timeout=timeout)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


@contextlib.contextmanager
def answering(url: str, timeout: float) -> Iterator[None]:
    """Raises RemoteProblem for what goes wrong on the way, and once the time is over."""
    try:
        yield
    except TimeoutError:
        raise RemoteProblem(f"no answer from {url} within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise RemoteProblem(f"{url}: {_why(error)}") from None


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
