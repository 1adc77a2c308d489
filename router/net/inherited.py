"""Listening sockets that a parent hands over, as systemd's socket units do (sd_listen_fds)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from router.model.errors import StartFailed
from router.net.listening import SEND_BUFFER

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
