"""Ports reserved for a test, and connections that break."""

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

import httpx

from tests.support.command import PATIENCE

HOST = "127.0.0.1"

#: Options of an HTTP client without a proxy and without certificates, whose loading takes 10 ms.
PLAIN: Any = {"trust_env": False, "verify": False}

#: Random in each process, so that two processes do not choose the same port.
_RANDOM = random.SystemRandom()


class HeldPort:
    """A reserved port. Sockets that share addresses (SO_REUSEADDR) can listen on it again and
    again; no other process is given it, and without a listener connections are refused."""

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
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def serving_in_a_thread(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def is_ready(port: int) -> bool:
    with suppress(httpx.TransportError):
        url = f"http://{HOST}:{port}/readyz"
        return httpx.get(url, timeout=PATIENCE, **PLAIN).is_success
    return False


def free_port() -> int:
    """Return a free port below 32768, the lowest one that a connection is given automatically."""
    while listens(port := _RANDOM.randrange(20_000, 30_000)):
        pass
    return port
