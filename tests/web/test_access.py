"""Access to a running router is decided before a body is read."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import PATIENCE
from tests.support.house import SAMPLE, House, house, routes, stand_in
from tests.support.serving import serving, target
from tests.support.wire import chunk, chunked, post

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-some-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}
LOOPBACK = (ip_network("127.0.0.0/8"),)


@asynccontextmanager
async def behind(host: str = "127.0.0.1", **options: Any) -> AsyncIterator[House]:
    settings = options.pop("settings", {})
    async with (
        stand_in() as (url, _),
        house(routes({"one": url}, ebaas=options), host=host, **settings) as router,
    ):
        yield router


async def code(router: House, **headers: str) -> str:
    """Return the code for a callback with these headers; the HTTP status agrees."""
    reply = await router.post(headers=headers)
    output = reply.json()
    assert list(output) == ["request_id", "code", "msg"]
    assert reply.status_code == (200 if output["code"] == "000" else int(output["code"]))
    shown: str = output["code"]
    return shown


async def raw(router: House, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*router.address)
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_token() -> None:
    """A request without a valid token gets 401, and reaches no target."""
    async with behind(token=["an-older-token-here", TOKEN]) as router:
        assert await code(router, **BEARER) == "000"
        assert await code(router, authorization="Bearer an-older-token-here") == "000"
        assert (await router.post()).headers["www-authenticate"] == "Bearer"
        assert await code(router, authorization=f"Bearer {TOKEN}x") == "401"
        await router.line("refused", 2)
        events = [line for line in router.lines if line["happening"] == "event"]
        refused = [line["why"] for line in router.lines if line["happening"] == "refused"]
    assert len(events) == 2
    assert refused == ["no token", "a wrong token"]
    assert router.app.metrics.refused["401"] == 2


PACKETS = {"sized": post(), "in chunks": chunked(chunk(SAMPLE), b"0\r\n\r\n")}


@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS)
async def test_a_body_that_came_with_a_refused_head_goes_no_further(packet: bytes) -> None:
    """The body is dropped, even in the same packet."""
    async with behind(token=TOKEN) as router:
        reader, writer = await asyncio.open_connection(*router.address)
        with closing(writer):
            writer.write(packet)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
        assert await code(router, **BEARER, **{"x-request-id": "let-in"}) == "000"
        await router.line("event")
        events = [line for line in router.lines if line["happening"] == "event"]
    assert [event["request_id"] for event in events] == ["let-in"]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [("127.0.0.0/8", "000"), ("10.0.0.0/8", "403")],
)
async def test_networks(allowed: str, expected: str) -> None:
    """The peer's address counts, not its `x-forwarded-for`; IPv4 is IPv4 at any socket."""
    async with behind("::" if socket.has_ipv6 else "127.0.0.1", allow_from=allowed) as router:
        for claim in ({}, {"x-forwarded-for": "10.0.0.1"}, {"x-forwarded-for": "127.0.0.1"}):
            assert await code(router, **claim) == expected
        if expected == "403":
            line = await router.line("refused", 3)
            assert line["caller"] == "127.0.0.1"
            assert router.app.metrics.refused["403"] == 3


@pytest.mark.parametrize(
    ("forwarded", "expected", "caller"),
    [
        ("10.9.9.9, 192.0.2.7", "000", ""),
        ("192.0.2.7, 198.51.100.1", "403", "198.51.100.1"),
        ("192.0.2.7, nonsense", "403", "unknown"),
    ],
)
async def test_behind_proxies(forwarded: str, expected: str, caller: str) -> None:
    """A trusted proxy names the caller; without a valid address the request is refused."""
    proxies = {"trusted_proxies": LOOPBACK}
    async with behind(allow_from="192.0.2.0/24", settings=proxies) as router:
        assert await code(router, **{"x-forwarded-for": forwarded}) == expected
        if caller:
            assert (await router.line("refused"))["caller"] == caller
        assert await code(router) == "403"
    assert "nonsense" not in router.stream.getvalue()


async def test_the_body_is_not_waited_for() -> None:
    """A refusal is sent once the head has arrived; the caller is not asked for its body."""
    async with behind(token=TOKEN) as router:
        head = b"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        for more in (b"\r\n", b"\r\n{", b"Expect: 100-continue\r\n\r\n"):
            answer = await raw(router, head + more)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"100 Continue" not in answer
            assert b"connection: close" in answer


async def test_probes_are_exempt() -> None:
    """A balancer or kubelet has no token and any address."""
    async with behind(token=TOKEN, allow_from="192.0.2.0/24") as router:
        for path in ("/livez", "/readyz"):
            assert (await router.http.get(router.url + path)).status_code == 200
        assert await code(router, **BEARER) == "403"


async def test_callers_that_read_no_error_status() -> None:
    """`http_status: ok` holds for refusals of a caller as well."""
    async with behind(token=TOKEN, http_status="ok") as router:
        reply = await router.post()
        assert (reply.status_code, reply.json()["code"]) == (200, "401")


async def test_no_header_names_the_software() -> None:
    """No reply names a product or a version."""
    known = {"content-type", "content-length", "connection", "date", "allow", "www-authenticate"}
    async with behind(token=TOKEN) as router:
        for method, path, headers in (
            ("POST", "/callback", BEARER),
            ("POST", "/callback", {}),
            ("GET", "/callback", {}),
            ("GET", "/elsewhere", {}),
            ("GET", "/livez", {}),
            ("BREW", "/", {}),
        ):
            reply = await router.http.request(
                method, router.url + path, content=SAMPLE, headers=headers
            )
            assert reply.headers.keys() <= known


def test_a_reload_that_admits_everybody_is_warned_of(tmp_path: Path) -> None:
    """If the port can be reached from elsewhere; with a token there is no warning."""
    path, options = tmp_path / "routes.yaml", ("--host", "0.0.0.0")
    ebaas = {"token": TOKEN}
    with target() as one, serving(tmp_path, {"one": one}, options=options, ebaas=ebaas) as router:
        assert (router.post("x"), router.lines("config")) == ("401", [])
        path.write_text(json.dumps({**json.loads(path.read_text()), "ebaas": {}}))
        router.process.send_signal(signal.SIGHUP)
        router.wait_for(lambda: router.lines("config"))
        (line,) = router.lines("config")
        assert line["problem"].startswith("anybody who reaches this port may send events: ")
        assert router.post("x") == "000"
