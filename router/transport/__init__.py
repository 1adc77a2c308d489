"""Bytes over HTTP: what an engine is. The engines are interchangeable and share one suite."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from router.model import Reason

#: The largest answer body that is read. The contract's own is under 200 bytes; a web
#: framework's error page is under 64 KiB.
MAX_ANSWER = 64 * 1024

#: How long an idle connection is kept. Below the 5 s after which uvicorn and Node.js close
#: theirs, so that a request seldom meets a connection that is just being closed.
KEEP_ALIVE = 4.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer to one POST."""

    status: int
    body: bytes
    #: The `content-encoding` header in lower case, `""` where there is none or it is `identity`.
    encoding: str = ""
    #: The `retry-after` header as it came, `""` where there is none.
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """No whole answer came. A target's failure is a value, never an exception."""

    reason: Reason
    #: False only where it is certain that the target saw no whole request.
    delivered: bool
    #: The status line's status where it came before the failure.
    status: int | None = None
    #: A few words for people; nothing the target sent but its status.
    detail: str = ""


class Pool(Protocol):
    """The connections to one target. It belongs to one event loop."""

    async def post(
        self, headers: Sequence[tuple[bytes, bytes]], body: bytes, timeout: float
    ) -> Answer | Failure:
        """POST `body` once and read the whole answer, all within `timeout` seconds.

        Sends exactly `headers`, and `host` and `content-length` besides; follows no redirect,
        decodes nothing, keeps no cookie, takes no proxy from the environment. What may have been
        delivered is never sent again. Cancelling it closes its connection. Raises nothing else.
        """
        ...

    async def close(self) -> None:
        """Close every connection; what is in flight fails as `stopped`."""
        ...


#: Makes the pool for a URL, with at most that many connections. Does no I/O. Every engine takes
#: `tls` besides, an SSLContext to use instead of `system_trust`.
Engine = Callable[[str, int], Pool]


@cache
def system_trust() -> ssl.SSLContext:
    """Trusts whom the system trusts, or who is named by `SSL_CERT_FILE`; one for the process.

    It is made on first use, since reading some hundred certificates takes milliseconds.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # no engine speaks HTTP/2
    return context
