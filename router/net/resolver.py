"""Names looked up in the system's resolver, which may hang."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Thread

SocketPlace = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
SocketAddress = tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketPlace]


def look_up(name: bytes | str, port: int) -> asyncio.Future[Sequence[SocketAddress]]:
    """What the system's resolver says, with all that it goes by: /etc/hosts, search domains.

    It takes a thread of its own for however long it takes, so that no name waits for another's. A
    daemon: the process does not wait for it either.
    """
    loop = asyncio.get_running_loop()
    looked_up: asyncio.Future[Sequence[SocketAddress]] = loop.create_future()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            tell = partial(looked_up.set_exception, error)
        else:
            tell = partial(looked_up.set_result, found)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell)

    try:
        Thread(target=ask, name="look-up", daemon=True).start()
    except RuntimeError:
        looked_up.set_exception(socket.gaierror(socket.EAI_AGAIN, "no thread to look it up in"))
    return looked_up
