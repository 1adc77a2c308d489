"""The router as an ASGI application, for any server: uvicorn --factory router.asgi:create_app"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import Message, Receive, Scope, Send

from router.app import App
from router.config.settings import settings_from
from router.model.errors import RouterError
from router.telemetry.log import Log


class _Hosted(App):
    """Under a server that shows what it is told of a start that fails."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starlette would tell it the traceback, with our paths, and raise what it has told."""
        told = False

        async def tell(message: Message) -> None:
            nonlocal told
            error = sys.exc_info()[1]
            if message["type"] == "lifespan.startup.failed" and isinstance(error, RouterError):
                message["message"] = f"ebaas-router: {error}"
                told = True
            await send(message)

        try:
            await super().__call__(scope, receive, tell)
        except RouterError:
            if not told:
                raise


def create_app(middleware: Sequence[Middleware] = ()) -> Starlette:
    """The callback port's application, by the variables of `serve`; the first middleware is the
    outermost. What a server has to say of addresses, limits and a stop is that server's own.

    The ops port is no part of it: that is `serve`'s. A configuration that can't be used ends the
    process with its problems on stderr.
    """
    try:
        settings = settings_from(os.environ, {})
        log = Log(format=settings.log_format)
        # Who reaches the server is not known here: as if everybody did.
        app = _Hosted.loaded(replace(settings, host="0.0.0.0"), log, middleware)
    except RouterError as error:
        sys.exit(f"ebaas-router: {error}")
    for problem in app.warnings(app.reload.standing.config):
        log.warning("config", problem=problem)
    return app
