"""Ports that are a test's own, also while nobody listens there, and connections that break."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseServer
from typing import Any

from tests.support.command import PATIENCE

HOST = "127.0.0.1"

#: How a client of a test's speaks plain HTTP: through no proxy, and without having read whom TLS
#: would trust, which takes ten milliseconds.
PLAIN: Any = {"trust_env": False, "verify": False}

#: No seed of a test's makes it give what another process has just got.
_RANDOM = random.SystemRandom()


class HeldPort:
    """Whoever may share an address (SO_REUSEADDR) can listen there, again and again; nobody else
    is given it meanwhile, and while nobody listens connections are refused."""

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind((HOST, 0))
        self.number: int = self._holder.getsockname()[1]

    def listen(self) -> socket.socket:
        return socket.create_server((HOST, self.number), backlog=128)

    def close(self) -> None:
        self._holder.close()


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def serving_in_a_thread(server: BaseServer) -> Iterator[None]:
    """Until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection at once, and let the other side know."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def free_port() -> int:
    """A port that no connection gets by itself: those are above 32767."""
    while listens(port := _RANDOM.randrange(20_000, 30_000)):
        pass
    return port
