"""What serves the stand-ins: uvicorn as it comes, as one service among others."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from router.net.listening import listen
from router.process.asgi_server import Asgi, AsgiServer
from tests.support.house import PATIENCE
from tests.support.servers import served
from tests.support.sockets import PLAIN

pytestmark = pytest.mark.anyio


class Answering:
    """Tells what it was asked, once it may."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may = asyncio.Event()
        self.scopes: list[Any] = []
        self.waiting = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.asked.set()
        self.waiting += 1
        try:
            await self.may.wait()
        finally:
            self.waiting -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"asked"})


def running(application: Asgi, **options: Any) -> AbstractAsyncContextManager[AsgiServer]:
    return served(AsgiServer(application, listen("127.0.0.1", 0), **options))


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=PATIENCE, **PLAIN)


async def test_a_stop_lets_what_is_in_flight_finish(caplog: pytest.LogCaptureFixture) -> None:
    """Who is being answered has the answer; then it ends, idle connections or not, in silence."""
    application = Answering()
    async with client() as idle, client() as asking:
        async with running(application) as server:
            application.may.set()
            await idle.get(server.url)
            application.may.clear()
            application.asked.clear()
            answer = asyncio.create_task(asking.get(server.url))
            await application.asked.wait()
            server.stop()
            application.may.set()
        assert (await answer).text == "asked"
        with pytest.raises(httpx.ConnectError):
            await asking.get(server.url)
    assert caplog.records == []


async def test_a_stop_is_out_of_patience_at_some_time() -> None:
    """Who is not answered by then is told 500."""
    application = Answering()
    async with client() as asking:
        async with running(application, drain_timeout=1) as server:
            answer = asyncio.create_task(asking.get(server.url))
            await application.asked.wait()
        assert (await answer).status_code == 500


async def test_a_hurry_waits_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is in flight ends with its connection, also in the midst of a stop, in silence."""
    application = Answering()
    async with client() as asking:
        async with running(application) as server:
            answer = asyncio.create_task(asking.get(server.url))
            await application.asked.wait()
            server.stop()
            server.hurry()
        with pytest.raises(httpx.TransportError):
            await answer
    assert application.waiting == 0
    assert caplog.records == []


async def test_signals_are_left_alone() -> None:
    """Whoever heeds SIGINT and SIGTERM goes on to."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    async with running(Answering()):
        assert [signal.getsignal(number) for number in numbers] == before


async def test_a_failed_start_is_told() -> None:
    """Nobody waits for what will never be up."""
    listener = listen("127.0.0.1", 0)
    server = AsgiServer(Answering(), listener)
    listener.close()
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE):
        await server.up()
        with pytest.raises(OSError, match="descriptor"):
            await serving


async def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a variable of uvicorn's nor a header of a proxy's is believed."""
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    application = Answering()
    application.may.set()
    async with running(application) as server, client() as asking:
        await asking.get(server.url, headers={"x-forwarded-for": "10.9.8.7"})
    assert application.scopes[0]["client"][0] == "127.0.0.1"


async def test_a_fault_in_an_application_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asked is told 500, the log the fault."""

    async def application(*_: Any) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        async with running(application) as server, client() as asking:
            assert (await asking.get(server.url)).status_code == 500
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        ZeroDivisionError
    ]
