"""Files that are read again while the router serves: certificates in real handshakes."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from router.net.listening import listen
from router.net.tls import Pair, listener_tls
from router.process.running import Watch
from router.process.server import Server
from router.telemetry.log import Log
from tests.support.certificates import issued
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_new_certificate_is_taken(tmp_path: Path) -> None:
    """From the next handshake on; an unusable one is reported, and changes nothing."""
    issued(tmp_path)
    pair, stream = Pair(tmp_path / "cert.pem", tmp_path / "cert.key"), io.StringIO()
    tls = listener_tls(pair)
    server = Server(_nothing, listen("127.0.0.1", 0), tls=tls.context)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    watch = Watch(
        "--tls-cert", tls, lambda: listener_tls(pair), lambda new: server.renew(new.context),
        Log(stream, "json"), every=0.01,
    )  # fmt: skip
    serving = [asyncio.create_task(service.serve()) for service in (watch, server)]
    await server.up()
    try:
        first = await _shown(server)
        pair.cert.write_text("half of it")
        await until(lambda: len(lines()) == 1)
        assert (lines()[0]["result"], lines()[0]["what"]) == ("refused", "--tls-cert")
        assert len(lines()[0]["problems"]) == 1
        assert await _shown(server) == first
        issued(tmp_path)
        await until(lambda: len(lines()) == 2)
        assert lines()[1]["result"] == "taken"
        assert await _shown(server) != first
    finally:
        for service in (server, watch):
            service.stop()
        await asyncio.gather(*serving)


async def test_a_fault_of_ours_ends_no_watch() -> None:
    """It is reported like unusable contents, and the next usable ones are taken."""
    stream, taken = io.StringIO(), list[int]()
    found = iter([dict[str, int]()] * 2)

    def read() -> int:
        return next(found, {"tokens": 2})["tokens"]

    watch = Watch("--ops-tokens", 1, read, taken.append, Log(stream, "json"), every=0.01)
    serving = asyncio.create_task(watch.serve())
    await until(lambda: taken == [2])
    watch.stop()
    await serving
    line = json.loads(stream.getvalue().splitlines()[0])
    assert line["result"] == "refused"
    assert line["problems"][0].startswith("a fault of the router: KeyError in read, test_watch.py")


async def test_contents_are_taken_once_two_looks_agree() -> None:
    """Contents that are still being written are not taken."""
    found, taken = iter([2, 3]), list[int]()
    log = Log(io.StringIO())
    watch = Watch("--ops-tokens", 1, lambda: next(found, 4), taken.append, log, every=0.01)
    serving = asyncio.create_task(watch.serve())
    await until(lambda: taken)
    watch.stop()
    await serving
    assert taken == [4]


async def _shown(server: Server) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = server.listener.getsockname()
    _, writer = await asyncio.open_connection(*address, ssl=context)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Nobody calls it."""
