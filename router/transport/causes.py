"""What the errors of the system and of TLS mean: a reason, with a few words for people. Pure."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

from router.model import Reason

#: What an error means while there is no connection yet; the first that applies.
_CONNECT = (
    (socket.gaierror, Reason.DNS),
    (ConnectionRefusedError, Reason.CONNECT_REFUSED),
    (TimeoutError, Reason.CONNECT_TIMEOUT),
    (OSError, Reason.UNREACHABLE),
)


def connect_cause(error: Exception) -> tuple[Reason, str]:
    """Why no connection came about, whatever the library has wrapped the system's error in."""
    numbered = [link for link in chain(error) if isinstance(link, OSError) and link.errno]
    for kind, reason in _CONNECT:
        for link in numbered:
            if isinstance(link, kind):
                return reason, _words(link)
    return Reason.UNREACHABLE, ""


def tls_cause(error: Exception) -> tuple[Reason, str]:
    """Why the peers found no common ground: the certificate's fault, or the alert's name."""
    for link in chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return Reason.TLS, link.verify_message.rstrip(".")
        if isinstance(link, ssl.SSLError) and link.reason:
            return Reason.TLS, link.reason.replace("_", " ").lower()
    return Reason.TLS, "the connection ended during the handshake"


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, through groups as well: one member for each address tried."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from chain(member)
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from chain(cause)


def _words(error: OSError) -> str:
    """The system's words. Not the error's own, in which asyncio names the address."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or ""
    return os.strerror(error.errno)
