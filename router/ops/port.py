"""The ops port: `/metrics` and `/status`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.contract import FAILED
from router.contract.respond import request_id_of, respond, respond_to_error
from router.net import OPS, Tokens
from router.net.http.limits import Limits
from router.ops.guard import Guard
from router.ops.status import Reports, status_of
from router.telemetry import Log
from router.telemetry.metrics.exposition import render

#: Connections beyond those that are served, which are told so; few watch a router.
OPS_RESERVE = 8
CONNECTIONS = OPS - OPS_RESERVE

#: Seconds until a peer has taken an answer, which may have megabytes here.
REPLY = 60.0

Gather = Callable[[], Awaitable[Reports]]


class OpsPort:
    """What the ops port shows of the whole service; `gather` asks its processes, and must not take
    longer than whoever asks waits, nor fail because one of them does not answer."""

    def __init__(self, gather: Gather) -> None:
        self._gather = gather

    async def metrics(self, request: Request) -> Response:
        """Rendered in a thread: with a hundred targets it takes some 40 ms."""
        reports = await self._gather()
        accept = request.headers.get("accept", "")
        content_type, body = await asyncio.to_thread(lambda: render(reports.metrics, accept))
        # Not as `media_type`: the charset is in it already.
        return Response(body, headers={"content-type": content_type})

    async def status(self, request: Request) -> Response:
        """Always 200: it is a report. Whoever wants a verdict asks `/readyz`, or reads `status`."""
        said = status_of(await self._gather(), time.time())
        body = json.dumps(said, ensure_ascii=True, indent=2) + "\n"
        return Response(body, media_type="application/json")


def limits_of(callbacks: Limits) -> Limits:
    """The ops port's, by those of the callback port."""
    return replace(callbacks, connections=CONNECTIONS, reserve=OPS_RESERVE, reply=REPLY, exempt=())


def ops_app(gather: Gather, tokens: Tokens, log: Log) -> Guard:
    """The ops port's application. What it does not have is answered with the contract's JSON.

    Without tokens anybody who reaches the port has what is here: numbers, and the names of targets.
    What shows or changes an event has no place here unless there are some.
    """
    ops = OpsPort(gather)
    app = Starlette(
        routes=[
            Route("/metrics", ops.metrics, methods=["GET"]),
            Route("/status", ops.status, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )
    app.router.redirect_slashes = False
    return Guard(app, tokens, log)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return respond_to_error(error, request_id_of(request))


async def _fail(request: Request, _: Exception) -> Response:
    """A fault of the router's own; Starlette raises it on, and the server has it logged."""
    return respond(FAILED, request_id_of(request))
