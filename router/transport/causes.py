"""What the errors of the system and of TLS mean: a reason, with a few words for people. Pure."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator, Sequence

from router.model.event import Reason


class Forbidden(OSError):
    """An address that may not be connected to; its `strerror` is what the address is."""


#: What an error means while there is no connection yet; the first that applies.
_CONNECT = (
    (socket.gaierror, Reason.DNS),
    (ConnectionRefusedError, Reason.CONNECT_REFUSED),
    (TimeoutError, Reason.CONNECT_TIMEOUT),
    (Forbidden, Reason.FORBIDDEN),
    (OSError, Reason.UNREACHABLE),
)

#: What the system says where this process, or the machine, may open no more files.
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)

#: Why there is no connection where the handshake did not come to an end in time.
LATE_HANDSHAKE = (Reason.CONNECT_TIMEOUT, "the TLS handshake did not end")


def connect_cause(error: OSError) -> tuple[Reason, str]:
    """Why no connection came about."""
    if error.errno in _NO_MORE_FILES and not isinstance(error, socket.gaierror):
        return Reason.OUT_OF_FILES, _words(error)
    return _CONNECT[_rank(error)][1], _words(error)


def most_telling(errors: Sequence[OSError]) -> OSError:
    """Of what several addresses came to, that which says most: one that was tried, if there is."""
    return min(errors, key=_rank)


def tls_cause(error: Exception) -> tuple[Reason, str]:
    """Why the peers found no common ground: the certificate's fault, or the alert's name."""
    for link in chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return Reason.TLS, link.verify_message.rstrip(".")
        if isinstance(link, ssl.SSLError) and link.reason:
            return Reason.TLS, link.reason.replace("_", " ").lower()
    return Reason.TLS, "the connection ended during the handshake"


def system_error(error: Exception) -> OSError:
    """The system's own error, whatever a library has wrapped it in."""
    links = (link for link in chain(error) if isinstance(link, OSError) and link.errno)
    return next(links, OSError())


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _rank(error: OSError) -> int:
    """The place in `_CONNECT`."""
    return next(at for at, (kind, _) in enumerate(_CONNECT) if isinstance(error, kind))


def _words(error: OSError) -> str:
    """The system's words. Not the error's own, in which asyncio names the address."""
    if isinstance(error, socket.gaierror | Forbidden) or error.errno is None:
        return error.strerror or ""
    return os.strerror(error.errno)
