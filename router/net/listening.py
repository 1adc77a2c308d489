"""Listening sockets: bound before anything else starts, and closed with nobody lost."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterator

from router.model.errors import StartFailed

#: Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
BACKLOG = 2048

#: What the kernel keeps of replies that a peer doesn't read, in bytes per connection; a reply has a
#: few hundred, and by itself it would keep megabytes.
SEND_BUFFER = 32 * 1024

#: From Linux's headers; Python has no name for it.
_SO_ATTACH_FILTER = 26

#: A packet filter (see Linux's filter.txt) that drops what asks for a new connection, SYN without
#: ACK, and lets everything else through: byte 13 of a TCP header has its flags.
_NO_NEW_CONNECTIONS = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),  # load byte 13
        (0x54, 0, 0, 0x12),  # keep SYN and ACK of it
        (0x15, 0, 1, 0x02),  # where that is SYN alone,
        (0x06, 0, 0, 0),  # drop the packet,
        (0x06, 0, 0, 0xFFFFFFFF),  # else take it
    )
)


def listen(
    host: str, port: int, option: str = "--port", *, reuse_port: bool = False
) -> socket.socket:
    """A listening TCP socket, so that a taken port is known before anything else starts.

    Port 0 takes any free one. Raises StartFailed with one clear line; `option` is what names the
    port. With `reuse_port` other processes of the same user may listen there the same way, and the
    kernel spreads new connections over them.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise StartFailed(f"can't listen on {host}: no such host or address") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        # Listening here, not only in the server: two processes may both bind, but not both listen.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartFailed(f"can't listen on {host}:{port}: {_why(error, option)}") from None
    return listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    host, port = listener.getsockname()[:2]  # an IPv6 one has more members
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def bar(listener: socket.socket) -> None:
    """Let nobody new in, and everybody who is half way in.

    Closing a listening socket resets connections that the peer has for made: those that wait to be
    accepted, and those whose last packet is on its way. After this there are soon none. Who comes
    too late is left without an answer and asks again after a second, when the socket is closed or
    a successor listens. Where the system can't do it nothing happens.
    """
    if sys.platform != "linux":
        return
    steps = ctypes.create_string_buffer(_NO_NEW_CONNECTIONS, len(_NO_NEW_CONNECTIONS))
    count = len(_NO_NEW_CONNECTIONS) // 8
    program = struct.pack("HL", count, ctypes.addressof(steps))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return


def waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait to be accepted, accepted. Raises OSError where there is no file
    descriptor for one."""
    listener.setblocking(False)
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionAbortedError:
            continue
        except BlockingIOError:
            return
        connection.setblocking(False)
        yield connection


def _why(error: OSError, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the port is taken; stop what uses it, or name another with {option}"
        case errno.EACCES:
            return "the port needs more rights; take one above 1023"
        case errno.EADDRNOTAVAIL:
            return "the address is not one of this machine's"
        case _:
            return error.strerror or "the system refused"
