"""Services on one loop, from their start to their stop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router.net.listening import listen
from router.process import server as serving_module
from router.process.server import Server
from tests.support.command import PATIENCE, script

#: Two services that print what they do, and take a moment to end.
SERVICES = """
import asyncio, os, signal
from router.process.running import Service, run

class Slow(Service):
    def __init__(self, name):
        super().__init__()
        self.name = name

    async def serve(self):
        print("begins", self.name)
        await super().serve()
        await asyncio.sleep(0.05)
        print("ends", self.name)

    def stop(self):
        print("stops", self.name)
        super().stop()

async def then():
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)

run(Slow("first"), Slow("last"), then=then)
"""


def test_services_are_stopped_in_the_reverse_order() -> None:
    """Each once the one after it is done, which may need it to its end."""
    assert script(SERVICES).stdout.decode().splitlines() == [
        *("begins first", "begins last", "stops last", "ends last", "stops first", "ends first"),
    ]


@pytest.mark.anyio
async def test_a_hook_that_hangs_does_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even then the caller in flight gets a reply, and the server ends."""
    monkeypatch.setattr(serving_module, "GRACE", 0.1)
    never, called = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.set()
        await never.wait()

    async def hang() -> None:
        await never.wait()

    server = Server(app, listen("127.0.0.1", 0), drain_timeout=0.0, on_hurry=hang)
    task = asyncio.create_task(server.serve())
    await server.up()
    reader, writer = await asyncio.open_connection(*server.listener.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        await called.wait()
        server.stop()
        assert b" 503 " in await reader.readline()
        await task
    writer.close()
