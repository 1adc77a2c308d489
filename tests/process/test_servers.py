"""The application under each ASGI server, as the table in docs/how-to/asgi.md shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from router.net.listening import listen, url_of
from tests.support.command import ROOT
from tests.support.disputed import DISPUTED
from tests.support.house import PATIENCE, SAMPLE, House, house, on_each_server, routes, stand_in
from tests.support.servers import OWN, served_by
from tests.support.sockets import PLAIN
from tests.support.waiting import until
from tests.support.wire import PROBE, post

pytestmark = pytest.mark.anyio

PAGE = ROOT / "docs/how-to/asgi.md"

#: How long to wait for an answer to an incomplete request, in seconds: `serve` waits less here.
LONG_ENOUGH = 1.5


@dataclass
class Scene:
    """A router under one server, and a target that takes half a second."""

    router: House
    #: What the target got.
    got: list[Any]

    @asynccontextmanager
    async def line(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self.router.address)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def ask(self, raw: bytes) -> bytes:
        async with self.line() as (reader, writer):
            writer.write(raw)
            return await status(reader, 2 * LONG_ENOUGH)


async def status(reader: asyncio.StreamReader, seconds: float = PATIENCE) -> bytes:
    """Return the status of the response, `b""` if none comes."""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            return (await reader.readline())[9:12]
    return b""


@asynccontextmanager
async def scene(delay: float = 0.0, **top: Any) -> AsyncIterator[Scene]:
    async with stand_in(delay=delay) as (url, got), house(routes({"one": url}, **top)) as router:
        yield Scene(router, got)


async def disputed_heads() -> str:
    async with scene() as it:
        statuses = await asyncio.gather(*(it.ask(raw) for raw in DISPUTED.values()))
    return f"{statuses.count(b'200')} let through"


async def its_own_400() -> str:
    async with scene() as it, it.line() as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return "the contract's JSON" if b'"code"' in body else "its own words"


async def half_a_head() -> str:
    async with scene() as it, it.line() as (reader, writer):
        writer.write(post()[:30])
        return {b"408": "408"}.get(await status(reader, LONG_ENOUGH), "waits")


async def a_large_head() -> str:
    async with scene() as it:
        answer = await it.ask(post(*[b"A: " + b"x" * 1000] * 500))
    return "served" if answer == b"200" else "refused"


async def an_offer_of_http_2() -> str:
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAA")
    async with scene() as it:
        answer = (await it.ask(post(*offer))).decode()
        return "served" if answer == "200" and it.got else f"{answer}, its body is dropped"


async def an_expectation() -> str:
    async with scene() as it, it.line() as (reader, writer):
        writer.write(post(b"Expect: 100-continue")[: -len(SAMPLE)])
        answer = await status(reader, LONG_ENOUGH)
        return "asked for its body" if answer == b"100" else "waits"


async def a_hang_up() -> str:
    async with scene(delay=0.6) as it:
        async with it.line() as (_, writer):
            writer.write(post())
            await until(lambda: it.got)
        line = await it.router.line("event")
        return "noticed" if line["code"] == "" else "not noticed"


async def a_stop() -> str:
    async with scene(delay=0.5) as it:
        reader, writer = await asyncio.open_connection(*it.router.address)
        writer.write(post())
        await until(lambda: it.got)
    answer = await status(reader)
    writer.close()
    return "its reply" if answer == b"200" else answer.decode() or "cut"


async def a_late_attempt() -> str:
    """The reply leaves at `reply_within`, and the target still has the event."""
    async with (
        scene(delay=1.5, ebaas={"reply_within": "500ms"}) as it,
        it.line() as (reader, writer),
    ):
        writer.write(post())
        await reader.readuntil(b"}")
        writer.write(PROBE)
        answer = await status(reader, 0.5)
        return "served meanwhile" if answer == b"200" else "waits for it"


ROWS: dict[str, Callable[[], Awaitable[str]]] = {
    f"{len(DISPUTED)} disputed header blocks": disputed_heads,
    "the reply to bytes that are not HTTP": its_own_400,
    "half a header block": half_a_head,
    "a header block of 500 KB": a_large_head,
    "a callback that offers HTTP/2 (Java's HttpClient)": an_offer_of_http_2,
    "a callback with `expect: 100-continue`": an_expectation,
    "a caller that hangs up": a_hang_up,
    "a callback in flight at a stop": a_stop,
    "the next request, while an attempt continues": a_late_attempt,
}


def table() -> dict[str, dict[str, str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    start = next(at for at, row in enumerate(cells) if "granian" in row)
    names = cells[start][1:]
    return {
        row[0]: dict(zip(names, row[1:], strict=True))
        for row in cells[start + 2 :]
        if len(row) == 6
    }


server = on_each_server()


@pytest.mark.parametrize("row", ROWS)
async def test_the_page_agrees_with_the_servers(server: str, row: str) -> None:
    """Each cell of the table is the result of trying it."""
    result = await ROWS[row]()
    assert table()[row][server] == result


@pytest.mark.parametrize(
    "target",
    [
        b"http://y/callback?a=b",
        b"HTTP://[::1]:8443/%63all",
        b"https://y//callback/",
        b"/a?http://y",
    ],
)
async def test_a_url_is_read_as_uvicorn_reads_it(target: bytes) -> None:
    """A request for an absolute URL is for the URL's path; its host counts, not the header's."""
    answers = []
    for name in (OWN, "uvicorn-httptools"):
        listener = listen("127.0.0.1", 0)
        async with served_by(name, ECHO, listener), httpx.AsyncClient(**PLAIN) as client:
            answer = await client.post(
                url_of(listener), headers={"host": "x"}, extensions={"target": target}
            )
        answers.append(answer.json())
    (own, host), (uvicorns, _) = answers
    assert own == uvicorns
    assert host == (target.split(b"/")[2].decode() if target[0] != ord("/") else "x")


async def echo(request: Request) -> JSONResponse:
    scope = request.scope
    read = [scope["path"], scope["raw_path"].decode(), scope["query_string"].decode()]
    return JSONResponse([read, ",".join(request.headers.getlist("host"))])


ECHO = Starlette(routes=[Route("/{path:path}", echo, methods=["POST"])])
