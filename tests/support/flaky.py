"""A target that fails a number of times, and a caller that disconnects."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.house import SAMPLE, House
from tests.support.waiting import until

#: A queue whose retries come soon.
SOON = {"queue": {"retries": 3, "waits": ["100ms"]}}


class Flaky:
    """A target that fails a number of times, in total or for each event, and then acknowledges."""

    def __init__(self, failures: int, *, for_each: bool = False) -> None:
        self.failures = failures
        self.for_each = for_each
        #: The event ids of its requests.
        self.ids: list[str] = []
        #: Answers wait until this is set.
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        self.ids.append(fields["webhook-id"])
        come = self.ids.count(self.ids[-1]) if self.for_each else len(self.ids)
        code = "500" if come <= self.failures else "000"
        await self.may_answer.wait()
        body = f'{{"code":"{code}"}}'
        answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(answer.encode() + body.encode())
        await writer.drain()
        writer.close()


async def served(flaky: Flaky) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(flaky, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def hang_up(router: House, slow: Any, half: bool = False) -> None:
    """Post the sample and disconnect once the slow target has it; `half` closes only our side."""
    host, port = router.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /callback HTTP/1.1\r\nhost: a\r\ncontent-length: {len(SAMPLE)}\r\n\r\n"
    writer.write(head.encode() + SAMPLE)
    await writer.drain()
    await until(lambda: slow.requests)
    if half:
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
