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
    """An App for servers that log why a start failed: in one line, instead of Starlette's
    traceback, which contains our paths."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        logged = False

        async def report(message: Message) -> None:
            nonlocal logged
            error = sys.exc_info()[1]
            if message["type"] == "lifespan.startup.failed" and isinstance(error, RouterError):
                message["message"] = f"ebaas-router: {error}"
                logged = True
            await send(message)

        try:
            await super().__call__(scope, receive, report if scope["type"] == "lifespan" else send)
        except RouterError:
            if not logged:
                raise


def create_app(middleware: Sequence[Middleware] = ()) -> Starlette:
    """The application of the callback port, with the variables of `serve`; the first middleware is
    the outermost. Addresses, limits and the stop are up to the server. There is no ops port.

    An invalid configuration ends the process with its problems on stderr.
    """
    try:
        settings = settings_from(os.environ, {})
        log = Log(format=settings.log_format)
        # It is not known here who can reach the server: assume everybody.
        app = _Hosted.loaded(replace(settings, host="0.0.0.0"), log, middleware)
    except RouterError as error:
        sys.exit(f"ebaas-router: {error}")
    for problem in app.warnings(app.reload.config_state.config):
        log.warning("config", problem=problem)
    return app
