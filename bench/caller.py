"""A caller of the router, which sends one request at a time and keeps its connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

#: Seconds to wait for a reply.
PATIENCE = 30.0


class Caller:
    """An HTTP/1.1 client for one local port."""

    def __init__(self, port: int, path: str = "/callback") -> None:
        self._port = port
        self._path = path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, body: bytes) -> str:
        """Return the code of the reply, or the error in brackets."""
        return await self.say(request(self._path, body))

    async def say(self, *pieces: bytes, pause: float = 0.0) -> str:
        """Send these pieces one after another, and return like `post`."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connect()
                await self._write(pieces, pause)
                return await self._reply()
        except (OSError, EOFError, TimeoutError) as error:
            self.close()
            return f"({type(error).__name__})"

    async def hang_up(self, *pieces: bytes, after: float) -> str:
        """Send bytes and disconnect without waiting for a reply."""
        try:
            await self._connect()
            await self._write(pieces, 0.0)
        except OSError as error:
            return f"({type(error).__name__})"
        await asyncio.sleep(after)
        self.close()
        return "gone"

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None

    async def _connect(self) -> None:
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def _write(self, pieces: Sequence[bytes], pause: float) -> None:
        assert self._writer is not None
        for number, piece in enumerate(pieces):
            await asyncio.sleep(pause if number else 0.0)
            self._writer.write(piece)
            await self._writer.drain()

    async def _reply(self) -> str:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await self._reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        code: str = json.loads(body)["code"]
        return code


def request(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}".encode(),
        *headers,
    )
    return b"\r\n".join((*lines, b"", body))


def event(kind: str, *changes: str) -> bytes:
    """Return an event with the key `a.gs.KIND.1` and an id of its own in `changes`."""
    members = {
        "event_source": "a",
        "event_topic": "gs",
        "event_type": kind,
        "event_status": "1",
        "event_key": f"a.gs.{kind}.1",
        "changes": changes,
    }
    return json.dumps(members).encode()
