"""List the files that one event passes: python -m scripts.walk

The application serves in this process, on a real socket, beside three required targets that
acknowledge. After some events for warming up, some more are traced one by one, and the shortest
walk is printed, because a timer may interrupt a walk. A file is passed when one of its functions is
called on the loop's thread; the log's writer is on another thread. Constructors (`__init__`) do not
count.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import cast

from router.app import App
from router.config.loading import Config, parse
from router.config.settings import Settings
from router.net.listening import listen
from router.process.running import run
from router.process.server import Server
from router.telemetry.log import Log

WARM, WATCHED, TARGETS = 5, 7, 3

BODY = (
    b'{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
    b'"event_key":"a.gs.cert.1","changes":["id1","id2"]}'
)
REQUEST = (
    b"POST /callback HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"code":"000"}'

ROUTER = str(Path(__file__).parent.parent / "router") + "/"


class Answering(asyncio.Protocol):
    """Acknowledge every event."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, _: bytes) -> None:
        self._transport.write(ANSWER)


class Walk:
    """The router's files that are passed, with their visits in order."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        made = frame.f_code.co_name == "__init__"
        if event == "call" and not made and file.startswith(ROUTER):
            self.files.append(file.removeprefix(ROUTER))

    def __enter__(self) -> Walk:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    @property
    def passed(self) -> list[str]:
        """Return each file once, in the order of the first visit."""
        return list(dict.fromkeys(self.files))

    @property
    def changes(self) -> int:
        """Return how often a function calls into another file."""
        return sum(one != other for one, other in itertools.pairwise(self.files))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        walk = min(walks_of(Path(folder)), key=lambda walk: walk.changes)
    print("\n".join(walk.passed))
    print(f"\n{len(walk.passed)} files, {walk.changes} changes of file")


def walks_of(folder: Path) -> list[Walk]:
    """One for each traced event."""
    walks: list[Walk] = []
    listeners = [listen("127.0.0.1", 0) for _ in range(TARGETS)]
    app = App(Settings(store=folder / "walk.db"), routes_to(listeners), Log(io.StringIO(), "json"))
    serving = Server(app, listen("127.0.0.1", 0), lifespan=app.lifespan)

    async def drive() -> None:
        loop = asyncio.get_running_loop()
        targets = [await loop.create_server(Answering, sock=each) for each in listeners]
        caller = await asyncio.open_connection(*serving.listener.getsockname())
        for _ in range(WARM):
            await send(*caller)
        # Tasks of their own: their awaits are not on the event's path.
        walks.extend([await asyncio.create_task(watched(*caller)) for _ in range(WATCHED)])
        caller[1].close()
        for target in targets:
            target.close()
        serving.stop()

    run(serving, then=drive)
    return walks


def routes_to(listeners: Sequence[socket.socket]) -> Config:
    """Return routes that send every event to all targets."""
    ports = [each.getsockname()[1] for each in listeners]
    targets = {f"t{port}": {"url": f"http://127.0.0.1:{port}/callback"} for port in ports}
    routes = [{"name": "all", "match": "*", "required": list(targets)}]
    text = json.dumps({"version": 1, "targets": targets, "routes": routes})
    return parse(text.encode(), "routes.yaml", {}, None)


async def watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Walk:
    with Walk() as walk:
        await send(reader, writer)
    return walk


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one event, and wait for its reply and its log line."""
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head, head
    await reader.readuntil(b"}")
    await asyncio.sleep(0)


if __name__ == "__main__":
    main()
