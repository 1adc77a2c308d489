"""A TCP proxy in front of a server, which simulates failures of the network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto

from tests.support.command import PATIENCE
from tests.support.sockets import HOST, HeldPort, reset


class Loss(Enum):
    """The moment at which a connection breaks."""

    #: Before the server gets the message.
    ASKING = auto()
    #: After the server has answered, and before the client gets the answer.
    ANSWERING = auto()


@dataclass(eq=False, slots=True)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    #: True if it breaks at the server's next answer.
    doomed: bool = False
    #: The server's next answer waits for this.
    gate: asyncio.Event | None = None

    def reset(self) -> None:
        for end in (self.client, self.server):
            if end is not None:
                reset(end)


class Proxy:
    def __init__(self, to: int) -> None:
        #: The local port to which new connections go.
        self.to = to
        self._held = HeldPort()
        self.port = self._held.number
        #: The number of connections broken at a message.
        self.lost = 0
        #: The number of answers that have been held up.
        self.held = 0
        self._holding: list[tuple[bytes, Loss, asyncio.Event]] = []
        self._delay = 0.0
        self._losing: tuple[bytes, Loss] | None = None
        self._once = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._listen())

    @property
    def connections(self) -> int:
        return len(self._links)

    def cut(self) -> None:
        self._do(self._cut())

    @contextmanager
    def losing(self, message: bytes, loss: Loss, *, once: bool = False) -> Iterator[None]:
        """Break every connection, or only the first, on which this message is sent."""
        self._losing, self._once = (message, loss), once
        try:
            yield
        finally:
            self._losing = None

    @contextmanager
    def holding(self, message: bytes, at: Loss) -> Iterator[None]:
        """While the block runs, messages with this in them wait, or their answers do."""
        hold = message, at, asyncio.Event()
        self._holding.append(hold)
        try:
            yield
        finally:
            self._holding.remove(hold)
            self._loop.call_soon_threadsafe(hold[2].set)

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """Reset every connection, and each new one as soon as something is sent on it."""
        with self.losing(b"", Loss.ASKING):
            self.cut()
            yield

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let nothing through, like a network that drops packets."""
        self._flows.clear()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._flows.set)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset every connection, and refuse new ones."""
        self._do(self._refuse())
        try:
            yield
        finally:
            self._do(self._listen())

    def close(self) -> None:
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._flows.set)
        self._do(self._finished())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
        self._held.close()

    def _do(self, what: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, sock=self._held.listen())

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _cut(self) -> None:
        for link in self._links:
            link.reset()

    async def _finished(self) -> None:
        me = asyncio.current_task()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not me))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            await self._flows.wait()
            answers, link.server = await asyncio.open_connection(HOST, self.to)
            await asyncio.gather(self._ask(link, reader), self._answer(link, answers))
        except OSError:
            pass
        finally:
            link.reset()
            self._links.discard(link)

    async def _ask(self, link: _Link, reader: asyncio.StreamReader) -> None:
        assert link.server is not None
        while message := await reader.read(65536):
            await self._flows.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            for part, at, gate in list(self._holding):
                if part in message and at is Loss.ASKING:
                    await gate.wait()
                elif part in message:
                    link.gate = gate
            if self._losing is not None and self._losing[0] in message:
                link.doomed = True
                self.lost += 1
                loss = self._losing[1]
                if self._once:
                    self._losing = None
                if loss is Loss.ASKING:
                    break
            link.server.write(message)
            await link.server.drain()
        else:
            with suppress(OSError):
                link.server.write_eof()
            return
        link.reset()

    async def _answer(self, link: _Link, answers: asyncio.StreamReader) -> None:
        while message := await answers.read(65536):
            await self._flows.wait()
            if link.doomed:
                break
            if link.gate is not None:
                self.held += 1
                await link.gate.wait()
                link.gate = None
            link.client.write(message)
            await link.client.drain()
        link.reset()


def proxy(to: int) -> closing[Proxy]:
    return closing(Proxy(to))
