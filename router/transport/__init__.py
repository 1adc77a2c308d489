"""Bytes over HTTP: what an engine is. The engines are interchangeable and share one suite."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple, Protocol

from router.model import Reason

#: The largest answer body that is read. The contract's own is under 200 bytes; a web
#: framework's error page is under 64 KiB.
MAX_ANSWER = 64 * 1024

#: How long an idle connection is kept. Below the 5 s after which uvicorn and Node.js close
#: theirs, so that a request seldom meets a connection that is just being closed.
KEEP_ALIVE = 4.0


class Answer(NamedTuple):
    """A whole HTTP answer to one POST."""

    status: int
    body: bytes
    #: The `content-encoding` header in lower case, `""` where there is none or it is `identity`.
    encoding: str = ""
    #: The `retry-after` header as it came, `""` where there is none.
    retry_after: str = ""


class Failure(NamedTuple):
    """No whole answer came. A target's failure is a value, never an exception."""

    reason: Reason
    #: False only where it is certain that the target saw no whole request.
    delivered: bool
    #: The status line's status where it came before the failure.
    status: int | None = None
    #: A few words for people; nothing the target sent but its status.
    detail: str = ""


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they go on the wire, each with its line break: what a pool sends. Such lines may
    be joined. Raises ValueError where one would become two."""
    pairs = list(headers)
    lines = b"".join([b"%b: %b\r\n" % pair for pair in pairs])
    if not len(pairs) == lines.count(b"\r") == lines.count(b"\n") or b"\0" in lines:
        raise ValueError("a line break in a header")
    return lines


class Pool(Protocol):
    """The connections to one target. It belongs to one event loop.

    It has no bound of its own: there are as many connections as ever were in use at a time, less
    those that have ended.
    """

    def post(self, lines: bytes, body: bytes, timeout: float) -> asyncio.Future[Answer | Failure]:
        """POST `body` once and read the whole answer, all within `timeout` seconds.

        It has begun when this returns. Sends exactly `lines`, which `lines_of` has made, and
        `host` and `content-length` besides; follows no redirect, decodes nothing, keeps no cookie,
        takes no proxy from the environment. What may have been delivered is never sent again.
        Cancelling it closes its connection. A target's failure is a value: an exception is a fault
        of our own.
        """
        ...

    async def close(self) -> None:
        """Close every connection; what is in flight fails as `stopped`."""
        ...


#: Makes the pool for a URL. Does no I/O. Every engine takes `tls` besides, an SSLContext to use
#: instead of `system_trust`.
Engine = Callable[[str], Pool]


@cache
def system_trust() -> ssl.SSLContext:
    """Trusts whom the system trusts, or who is named by `SSL_CERT_FILE`; one for the process.

    It is made on first use, since reading some hundred certificates takes milliseconds.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # no engine speaks HTTP/2
    return context
