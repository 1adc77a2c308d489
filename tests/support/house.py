"""The router in a test: the real application on a real server and real sockets."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from router.app import App
from router.cli.receive import Received, StandIn
from router.config import loading
from router.config.settings import Settings
from router.delivery.queue import Queue
from router.net.listening import listen, url_of
from router.process.server import Server
from router.telemetry.log import Log
from router.telemetry.tracing import NO_TRACES, Tracing
from router.web.callbacks import MAX_BODY
from tests.support.command import PATIENCE as PATIENCE
from tests.support.effort import LONG
from tests.support.servers import FOREIGN, OWN, served, served_by
from tests.support.sockets import PLAIN
from tests.support.waiting import until

#: The sample of the platform's page, byte for byte.
SAMPLE = (
    b'{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
    b'"event_key":"a.gs.cert.1","changes":["id1","id2"]}'
)

#: The server that runs routers. A suite may change it for itself.
SERVER = [OWN]


def on_each_server(scope: Any = "function", autouse: bool = False) -> Any:
    """Return a fixture for our own server and one other; with LONG=1, for the rest."""

    @pytest.fixture(scope=scope, autouse=autouse, params=FOREIGN[1:] if LONG else [OWN, FOREIGN[0]])
    def server(request: pytest.FixtureRequest) -> Iterator[str]:
        SERVER[0] = request.param
        yield request.param
        SERVER[0] = OWN

    return server


#: Seconds between two looks of the queue. Short, because tests wait for it.
QUEUE_POLL = 0.05


def event(**fields: Any) -> bytes:
    """Return the sample with other fields; `...` leaves a field out."""
    members = {**json.loads(SAMPLE), **fields}
    return json.dumps({k: v for k, v in members.items() if v is not ...}).encode()


@dataclass
class House:
    """A running router and its log."""

    url: str
    #: Host and port.
    address: tuple[str, int]
    http: httpx.AsyncClient
    app: App
    stream: io.StringIO
    #: None under another server than our own.
    server: Server | None

    async def post(self, body: bytes = SAMPLE, path: str = "/callback", **options: Any) -> Any:
        return await self.http.post(self.url + path, content=body, **options)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of its log, except those about a slow machine."""
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if line["happening"] != "loop_lag"]

    async def line(self, happening: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`-th log line of a happening."""
        await until(lambda: len(self._of(happening)) >= count)
        return self._of(happening)[count - 1]

    def _of(self, happening: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["happening"] == happening]


@asynccontextmanager
async def house(
    routes: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    tracing: Tracing = NO_TRACES,
    listener: socket.socket | None = None,
    max_body: int = MAX_BODY,
    serving: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[House]:
    """Run a router with this routes.yaml (JSON is YAML). `serving` has options of the server."""
    stream = io.StringIO()
    settings.setdefault("store", None)
    loaded = loading.parse(json.dumps(routes).encode(), "routes.yaml", environ or {}, None)
    app = App(Settings(**settings), loaded, Log(stream, "json"), tracing=tracing)
    app.callbacks.max_body = max_body
    listener = listener or listen(host, 0)
    port, url = listener.getsockname()[1], url_of(listener).replace("[::]", "127.0.0.1")
    with patch.object(Queue, "poll", QUEUE_POLL):
        async with (
            served_by(SERVER[0], app, listener, **(serving or {})) as server,
            httpx.AsyncClient(timeout=PATIENCE, **PLAIN) as client,
        ):
            address = "::1" if host == "::1" else "127.0.0.1", port
            yield House(url, address, client, app, stream, server)


@asynccontextmanager
async def stand_in(**options: Any) -> AsyncIterator[tuple[str, list[Received]]]:
    """Run a business endpoint; yields its URL and its requests."""
    seen: list[Received] = []
    endpoint = StandIn(on_request=seen.append, **options)
    async with served(Server(endpoint, listen("127.0.0.1", 0))) as server:
        yield server.url + "/callback", seen


def routes(
    required: Mapping[str, Any] | None = None,
    optional: Mapping[str, Any] | None = None,
    match: Any = "*",
    **top: Any,
) -> dict[str, Any]:
    """Return a routes.yaml with one route. Targets by name are a URL or a mapping."""
    both = {**(required or {}), **(optional or {})}
    targets = {name: {"url": t} if isinstance(t, str) else t for name, t in both.items()}
    route: dict[str, Any] = {"name": "all", "match": match}
    if required:
        route["required"] = list(required)
    if optional:
        route["optional"] = list(optional)
    return {"version": 1, "targets": targets, "routes": [route], **top}
