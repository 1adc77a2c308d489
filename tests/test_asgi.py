"""ASGI applications at the front: whole replies, and what is said where there is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from router.asgi import Asgi, Exchange
from router.server import DEFAULT_LIMITS, Server, listen
from router.web.limits import Limits
from tests.wire import head

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(app: Asgi, limits: Limits = DEFAULT_LIMITS) -> AsyncIterator[str]:
    """Its URL, until the block ends."""
    server = Server(app, listen("127.0.0.1", 0), limits=limits)
    serving = asyncio.create_task(server.serve())
    await server.up()
    try:
        yield server.url
    finally:
        server.stop()
        await serving


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def test_a_reply_in_parts_goes_out_whole() -> None:
    """Parts are put together, and a length is said where the application says none."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send(start((b"x-path", scope["raw_path"]), status=201))
        await send({"type": "http.response.body", "body": b"it was ", "more_body": True})
        await send({"type": "http.response.body", "body": message["body"]})

    async with served(app) as url, httpx.AsyncClient(trust_env=False) as client:
        reply = await client.post(f"{url}/%61?b=c", content=b"this")
    assert reply.status_code == 201
    assert reply.content == b"it was this"
    assert reply.headers["content-length"] == "11"
    assert reply.headers["x-path"] == "/%61"
    assert "date" in reply.headers


async def test_a_fault_in_an_application_is_the_contracts_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever asked gets the contract's JSON, the log the fault."""

    async def app(*_: Any) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        async with served(app) as url, httpx.AsyncClient(trust_env=False) as client:
            reply = await client.get(url)
    assert reply.status_code == 500
    assert reply.json()["code"] == "500"
    assert [record.name for record in caplog.records] == ["router.asgi"]


async def test_half_a_reply_is_no_reply() -> None:
    """An application that ends in the midst of its reply has its connection end."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with served(app) as url, httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(url)


async def test_of_too_long_a_body_an_application_gets_a_part(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told that there is more, and when it waits for that, that no more will come."""
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend([await receive(), await receive()])

    monkeypatch.setattr(Exchange, "max_body", 1_000)
    part = b"x" * 1_001
    async with served(app, Limits(receive=2.0)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        length = b"content-length: %d" % (len(part) + 9)
        writer.write(head(b"POST / HTTP/1.1", b"host: x", length) + part)
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
    first, second = messages
    assert (len(first["body"]), first["more_body"]) == (len(part), True)
    assert second["type"] == "http.disconnect"
    assert caplog.records == []
