"""Paths of the callback port: where callbacks go, /livez and /readyz, and refusals."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from router.contract.replies import ACKNOWLEDGED, BUSY, FAILED, NOT_OPEN
from router.contract.respond import reply_to_error, request_id_of, respond, respond_to_error
from router.delivery.observer import Observer, Told
from router.web.callbacks import refused


class Probes:
    """`/livez`: the process answers. `/readyz`: it takes callbacks."""

    def __init__(self) -> None:
        self.ready = False
        #: The store is not open yet.
        self.opening = True

    async def live(self, request: Request) -> Response:
        return respond(ACKNOWLEDGED, request_id_of(request))

    async def readiness(self, request: Request) -> Response:
        unready = NOT_OPEN if self.opening else BUSY
        return respond(ACKNOWLEDGED if self.ready else unready, request_id_of(request))


_WHY: Final = {404: "no such path", 405: "no such method there"}


def routes(path: str, callbacks: ASGIApp, probes: Probes) -> list[Route]:
    """Each path by its whole name: `/callback/` is another than `/callback`."""
    made = [
        Route(path, callbacks, methods=["POST"], name="callback"),
        Route("/livez", probes.live, methods=["GET"]),
        Route("/readyz", probes.readiness, methods=["GET"]),
    ]
    for route in made:
        # Starlette's own ends with `$`, before which there may be a line break.
        route.path_regex = re.compile(re.escape(route.path) + r"\Z")
    return made


class Straight:
    """A callback goes straight to its endpoint, past Starlette's router and exception handlers,
    which it has no need of. They would cost it some 8 µs, one part in twenty."""

    def __init__(self, app: ASGIApp, path: str, callbacks: ASGIApp) -> None:
        self._app = app
        self._path = path
        self._callbacks = callbacks

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_whole = scope["type"] == "http" and not scope.get("root_path")
        if is_whole and scope["method"] == "POST" and scope["path"] == self._path:
            return self._callbacks(scope, receive, send)
        return self._app(scope, receive, send)


class Refusals:
    """What is answered where Starlette would answer itself."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @property
    def handlers(self) -> dict[type[Exception], ExceptionHandler]:
        return {HTTPException: self._refuse, Exception: self._fail}

    async def _refuse(self, request: Request, error: Exception) -> Response:
        # Neither path nor method is repeated: a path may hold a secret.
        assert isinstance(error, HTTPException)
        reply, request_id = reply_to_error(error), request_id_of(request)
        why = _WHY.get(reply.status, f"status {reply.status}, by a middleware")
        self._observer.refused(Told(request_id, reply.code, 0.0), refused(reply, why))
        return respond_to_error(error, request_id)

    async def _fail(self, request: Request, _: Exception) -> Response:
        """A fault in a middleware; Starlette raises it on, and the server has it logged."""
        return respond(FAILED, request_id_of(request))
