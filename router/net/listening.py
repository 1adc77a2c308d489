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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


#: The number of the first one; the others follow it.
_FIRST = 3

#: How the ops port's is called; the other one may have any name.
_OPS = "ops"


@dataclass(frozen=True, slots=True)
class Inherited:
    """What was handed over. Each socket outlives this process: who waits there waits for
    whoever accepts next."""

    #: Where callbacks come; None where that is ours to open.
    callbacks: socket.socket | None = None
    ops: socket.socket | None = None


def take_inherited(environ: MutableMapping[str, str]) -> Inherited:
    """The sockets that are meant for this process. The variables are taken away: no child of it
    shall think that they are meant for itself. Raises StartFailed."""
    given = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if given["LISTEN_PID"] != str(os.getpid()):
        return Inherited()
    if not given["LISTEN_FDS"].isdecimal():
        raise StartFailed("LISTEN_FDS is not a number")
    numbers = range(_FIRST, _FIRST + int(given["LISTEN_FDS"]))
    names = dict(zip(numbers, given["LISTEN_FDNAMES"].split(":"), strict=False))
    ops = [number for number in numbers if names.get(number) == _OPS]
    callbacks = [number for number in numbers if number not in ops]
    return Inherited(_only(callbacks, "for callbacks"), _only(ops, "named ops"))


def is_listening(candidate: socket.socket) -> bool:
    return bool(candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _only(numbers: list[int], what: str) -> socket.socket | None:
    if len(numbers) > 1:
        raise StartFailed(f"LISTEN_FDS has {len(numbers)} sockets {what}; there may be one")
    return _taken(numbers[0]) if numbers else None


def _taken(number: int) -> socket.socket:
    """The socket of that number, which no program that this one runs is to have."""
    try:
        os.set_inheritable(number, False)
        listener = socket.socket(fileno=number)
    except OSError:
        raise StartFailed(f"LISTEN_FDS: file descriptor {number} is no socket") from None
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6)
    if not (is_tcp and listener.type == socket.SOCK_STREAM and is_listening(listener)):
        raise StartFailed(f"LISTEN_FDS: file descriptor {number} is no TCP socket that listens")
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return listener


#: Open files that a process may have, where the system lets it have as many.
FILES = 65536

#: Files that a process has open beside its connections: its loop, its log, what a reload and a
#: look-up of names read; and the connections at the ops port.
SPARE, OPS = 64, 64

#: The fewest connections that callers can do with.
LEAST = 32

_MIB = 1024 * 1024


class Callers(NamedTuple):
    """How many connections callers may have."""

    connections: int
    #: Beyond those, for probes and for who is told that the house is full.
    reserve: int
    #: Where these are fewer than were asked for: why, in one line.
    note: str = ""


def files_allowed() -> int:
    """What `run` raises this process's limit of open files to."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)


def share_out(files: int, asked: Callers, targets: int, store: int) -> Callers:
    """How many of so many files callers may have, where targets and the store want as many as that.

    Targets have what they want up to half of what is there: they shall not fail for the number of
    those who call. Raises StartFailed where too few are left.
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


def memory_note(limit: int | None, requests: int, max_body: int) -> str:
    """Return a warning where so many callbacks may need more memory than there is, or `""`."""
    needed = requests * max_body
    if limit is None or needed <= limit:
        return ""
    return (
        f"--max-requests: callbacks in flight may take {_mib(needed)}, and the limit of memory is "
        f"{_mib(limit)}: lower the first or raise the second"
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.0f} MiB"


def memory_limit(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """The least limit of the control groups that this process is in, in bytes; None without one."""
    found = []
    for path in _limits(groups, root):
        with suppress(OSError, ValueError):  # not there, or `max`
            found.append(int(path.read_text()))
    return min(found, default=None)


def _limits(groups: Path, root: Path) -> Iterator[Path]:
    """The files that may have a limit. Within a container its own group may be the root."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        top, name = root, "memory.max"
        if "memory" in kinds.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        elif kinds:
            continue
        group = Path(place.lstrip("/"))
        yield from (top / each / name for each in (group, *group.parents))
