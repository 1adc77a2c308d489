"""Listening sockets: our own or inherited ones, and how many callers the process has room for."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import NamedTuple

from router.model.errors import StartFailed

#: Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
BACKLOG = 2048

#: How much of unread replies to callbacks the kernel keeps, in bytes per connection; a reply has a
#: few hundred, and by default it would keep megabytes.
SEND_BUFFER = 32 * 1024

#: Words for errors; the system's own for any other.
_WHY = {
    errno.EACCES: "the port needs more rights; take one above 1023",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's",
}

#: From Linux's headers; Python has no name for it.
_SO_ATTACH_FILTER = 26

#: A packet filter (see Linux's filter.txt) that drops requests for a new connection, SYN without
#: ACK, and accepts everything else: byte 13 of a TCP header has the flags.
_NO_NEW_CONNECTIONS = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),  # load byte 13
        (0x54, 0, 0, 0x12),  # keep SYN and ACK of it
        (0x15, 0, 1, 0x02),  # if that is SYN alone,
        (0x06, 0, 0, 0),  # drop the packet,
        (0x06, 0, 0, 0xFFFFFFFF),  # otherwise accept it
    )
)


def listen(
    host: str,
    port: int,
    option: str = "--port",
    *,
    reuse_port: bool = False,
    send_buffer: int = SEND_BUFFER,
) -> socket.socket:
    """Return a listening TCP socket; port 0 is any free one.

    With `reuse_port`, other processes of the same user may listen there as well, and the kernel
    spreads new connections over them. With a `send_buffer` of 0 the kernel fits it to the link.
    Raises StartFailed with one line; `option` names the port.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, ValueError):  # the latter for a name that cannot be encoded
        raise StartFailed(f"can't listen on {host}: no such host or address") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        # Not only in the server: two processes may both bind, but not both listen.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartFailed(f"can't listen on {host}:{port}: {_why(error, option)}") from None
    return listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    host, port = listener.getsockname()[:2]  # an IPv6 one has more members
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def refuse_new_connections(listener: socket.socket) -> None:
    """Drop requests for new connections, but complete those under way; only Linux can do that.

    Closing a listening socket resets connections that count as made for the peer: those that wait
    to be accepted, and those whose last packet is on its way. After this call there are soon none.
    A later caller gets no answer and tries again after a second, when the socket is closed or a
    successor listens.
    """
    if sys.platform != "linux":
        return
    steps = ctypes.create_string_buffer(_NO_NEW_CONNECTIONS, len(_NO_NEW_CONNECTIONS))
    count = len(_NO_NEW_CONNECTIONS) // 8
    program = struct.pack("HL", count, ctypes.addressof(steps))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept all connections that wait. Raises OSError if there is no file descriptor for one."""
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
    if error.errno == errno.EADDRINUSE:
        return f"the port is taken; stop what uses it, or name another with {option}"
    return _WHY.get(error.errno or 0) or error.strerror or "the system refused"


#: The file descriptor of an inherited socket.
_INHERITED = 3


def take_inherited(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Return the socket that the service manager hands over, and remove the variables. Neither is
    for child processes. It outlives this process: connections that wait there are accepted by the
    next one. Raises StartFailed."""
    given = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if given["LISTEN_PID"] != str(os.getpid()) or given["LISTEN_FDS"] == "0":
        return None
    if given["LISTEN_FDS"] != "1":
        raise StartFailed(f"LISTEN_FDS is {given['LISTEN_FDS']!r}; there may be one socket")
    with suppress(OSError):
        os.set_inheritable(_INHERITED, False)
        listener = socket.socket(fileno=_INHERITED)
        if (
            listener.family in (socket.AF_INET, socket.AF_INET6)
            and listener.type == socket.SOCK_STREAM
            and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            return listener
    raise StartFailed("LISTEN_FDS: the socket is no TCP socket that listens")


#: The limit of open files that a process asks for.
FILES = 65536

#: Open files beside the connections: the loop, the log, files of a reload and of name look-ups; and
#: the connections at the ops port.
SPARE, OPS = 64, 64

#: The fewest connections for callers.
LEAST = 32


class Callers(NamedTuple):
    """The number of connections for callers."""

    connections: int
    #: Further ones, for probes and for refusals.
    reserve: int
    #: Why these are fewer than the settings say, in one line.
    note: str = ""


def files_allowed() -> int:
    """Return the limit of open files that `run` sets for this process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)


def share_out(files: int, asked: Callers, targets: int, store: int) -> Callers:
    """Share out the open files among callers, targets and the store, which want that many.

    Targets get all they want up to half of the files, so that they do not fail for the number of
    callers. Raises StartFailed if too few are left.
    """
    rest = files - SPARE - OPS - store
    callers = rest - min(targets, rest // 2)
    if callers < LEAST:
        needed = SPARE + OPS + store + LEAST + min(targets, LEAST)
        raise StartFailed(
            f"at least {needed} open files are needed, and the system allows {files}: "
            "raise that (ulimit -n, LimitNOFILE)"
        )
    reserve = min(asked.reserve, callers // 8)
    connections = min(asked.connections, callers - reserve)
    if connections == asked.connections:
        return Callers(connections, reserve)
    note = (
        f"callers have {connections} connections and not {asked.connections}: the system allows "
        f"{files} open files, of which targets get {rest - callers}, the store {store}, and "
        f"{SPARE + OPS + reserve} are kept back: raise that (ulimit -n, LimitNOFILE)"
    )
    return Callers(connections, reserve, note)
