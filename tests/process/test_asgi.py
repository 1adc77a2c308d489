"""The router as an ASGI application: under another server's command line, with middleware, mounted
in a larger application, and without any server."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.app import App
from router.config import loading
from router.config.settings import Settings
from router.model.build import COMPILED
from router.model.errors import StartFailed
from router.net.listening import listen
from router.store.sqlite.store import SqliteStore
from router.telemetry.log import Log
from tests.support.command import PATIENCE, ROOT, environment, one_line
from tests.support.house import SAMPLE, routes
from tests.support.servers import FOREIGN, OWN, served_by
from tests.support.serving import Target, target
from tests.support.sockets import PLAIN, free_port, is_ready
from tests.support.waiting import wait_until

pytestmark = pytest.mark.anyio


class Plain:
    """Changes the body, as one that decrypts would, and returns a header of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"x-trace", b"none")

        async def rewritten() -> Message:
            message = await receive()
            message["body"] = message.get("body", b"").replace(b"id1", b"id9")
            return message

        async def correlated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-trace", given))
            await send(message)

        await self._app(scope, rewritten, correlated)


class Timed(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-timed"] = "yes"
        return response


@pytest.fixture
def one() -> Iterator[Target]:
    with target() as made:
        yield made


def made(one: Target, *middleware: Any, **settings: Any) -> tuple[App, io.StringIO]:
    stream = io.StringIO()
    loaded = loading.parse(json.dumps(routes({"one": one.url})).encode(), "routes.yaml", {}, None)
    given = Settings(**{"store": None, **settings})
    made = [Middleware(cls) for cls in middleware]
    return App(given, loaded, Log(stream, "json"), middleware=made), stream


@asynccontextmanager
async def asked(app: Any, server: str = OWN) -> AsyncIterator[httpx.AsyncClient]:
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with (
        served_by(server, app, listener),
        httpx.AsyncClient(base_url=url, timeout=PATIENCE, **PLAIN) as client,
    ):
        yield client


@pytest.mark.parametrize("server", [OWN, *FOREIGN])
async def test_middleware_sees_requests_and_replies(one: Target, server: str) -> None:
    """It can change bodies of requests and headers of replies, for probes and refusals too."""
    app, _ = made(one, Plain, Timed)
    async with asked(app, server) as client:
        for path, body, status in (("/callback", SAMPLE, 200), ("/nowhere", b"", 404)):
            reply = await client.post(path, content=body, headers={"x-trace": "7"})
            assert reply.status_code == status
            assert (reply.headers["x-trace"], reply.headers["x-timed"]) == ("7", "yes")
            assert reply.json()["code"] == ("000" if status == 200 else "404")
        assert (await client.get("/livez")).headers["x-timed"] == "yes"
    assert [got.event for got in one.got] == ["id9"]


async def test_it_is_driven_without_a_server(one: Target) -> None:
    """By httpx's transport for ASGI, within its lifespan."""
    app, stream = made(one)
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, **PLAIN) as client:
        for path, code in (("/callback", "000"), ("/nowhere", "404")):
            reply = await client.post(f"http://router{path}", content=SAMPLE)
            assert reply.json()["code"] == code
    assert '"happening":"event"' in stream.getvalue()


async def test_it_is_mounted_in_a_larger_application(one: Target) -> None:
    """The larger lifespan includes the router's."""
    app, _ = made(one)
    larger = Starlette(routes=[Mount("/ebaas", app)], lifespan=lambda _: app.lifespan())
    async with asked(larger) as client:
        assert (await client.post("/ebaas/callback", content=SAMPLE)).json()["code"] == "000"
        assert (await client.get("/ebaas/readyz")).status_code == 200
        assert (await client.post("/ebaas/callback/", content=SAMPLE)).json()["code"] == "404"


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path, one: Target) -> None:
    """The archive's thread ends with it."""
    app, _ = made(one, store=tmp_path, archive=tmp_path / "archive")
    with pytest.raises(StartFailed):
        async with app.lifespan():
            pass
    assert "archive" not in [thread.name for thread in threading.enumerate()]


def variables(folder: Path, one: Target, **more: str) -> dict[str, str]:
    file = folder / "routes.yaml"
    file.write_text(json.dumps(routes({"one": one.url})))
    given = {"CONFIG": str(file), "STORE": str(folder / "store.db"), "LOG_FORMAT": "json", **more}
    return environment({f"EBAAS_ROUTER_{name}": value for name, value in given.items()})


UVICORN = ("uvicorn", "--lifespan", "on")
GRANIAN = ("granian", "--interface", "asgi")


def command(
    port: int, environ: dict[str, str], server: tuple[str, ...] = UVICORN
) -> subprocess.Popen[bytes]:
    factory = ("--factory", "router.asgi:create_app", "--port", str(port))
    return subprocess.Popen(
        [sys.executable, "-m", *server, *factory],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_uvicorns_own_command_serves_it(tmp_path: Path, one: Target) -> None:
    """Settings come from variables; a signal ends it, and its log lines are there."""
    port = free_port()
    process = command(port, variables(tmp_path, one, PATH="/ebaas/in"))
    try:
        wait_until(lambda: is_ready(port))
        reply = httpx.post(f"http://127.0.0.1:{port}/ebaas/in", content=SAMPLE, **PLAIN)
        assert reply.json()["code"] == "000"
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    lines = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    assert [line["happening"] for line in lines] == ["config", "event", "stopping"]
    assert "anybody who reaches" in lines[0]["problem"]


@pytest.mark.parametrize(
    ("name", "value", "output"),
    [
        ("ENGINE", "much", "EBAAS_ROUTER_ENGINE: "),
        ("WORKERS", "2", "not a setting any more"),
        ("CONFIG", "none.yaml", "none.yaml"),
    ],
)
def test_settings_that_can_not_be_used_end_the_start(
    tmp_path: Path, one: Target, name: str, value: str, output: str
) -> None:
    """With one line, and no traceback, under any server."""
    process = command(1, variables(tmp_path, one, **{name: value}))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert one_line(err).startswith("ebaas-router: ")
    assert output in one_line(err)


@pytest.mark.parametrize("server", [UVICORN, GRANIAN], ids=["uvicorn", "granian"])
def test_a_store_that_can_not_be_used_ends_the_start(
    tmp_path: Path, one: Target, server: tuple[str, ...]
) -> None:
    """The server's output has one line of ours, and no traceback."""
    environ = variables(tmp_path, one, STORE=str(tmp_path), ARCHIVE="none")
    process = command(free_port(), environ, server)
    output = b"".join(process.communicate(timeout=PATIENCE))
    assert process.returncode != 0
    assert output.count(b"ebaas-router: can't use the store ") == 1
    assert b"Traceback" not in output
    assert b".py" not in output


@pytest.mark.skipif(COMPILED, reason="nothing can be replaced in what is compiled")
async def test_a_router_that_is_stopped_while_it_starts_is_never_ready(
    one: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A balancer would send it callbacks."""
    app, _ = made(one, store=tmp_path / "store.db")
    read = SqliteStore.pauses

    async def stop_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(SqliteStore, "pauses", read)
        app.drain()
        return await read(*arguments)

    monkeypatch.setattr(SqliteStore, "pauses", stop_meanwhile)
    async with app.lifespan():
        assert not app.probes.ready
