"""Opens and closes an ASGI application, and raises what went wrong where uvicorn would log it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Application = Callable[..., Awaitable[None]]

_SCOPE = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}


class Lifespan:
    """One application's lifespan, with the parts of uvicorn's own that its server uses."""

    should_exit = False

    def __init__(self, app: Application) -> None:
        #: What the application's requests get as their `state`.
        self.state: dict[str, Any] = {}
        self._app = app
        self._opened = asyncio.Event()
        self._told_to_close = asyncio.Event()
        self._asked = False

    async def startup(self) -> None:
        """Open it. Raises what it raises."""
        scope = {**_SCOPE, "state": self.state}
        self._life = asyncio.create_task(self._live(scope))
        await self._opened.wait()
        if self._life.done():
            self._life.result()

    async def shutdown(self) -> None:
        """Close it. Raises what it raises."""
        self._told_to_close.set()
        await self._life

    async def _live(self, scope: dict[str, Any]) -> None:
        try:
            await self._app(scope, self._receive, self._send)
        finally:
            self._opened.set()

    async def _receive(self) -> dict[str, str]:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._told_to_close.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        # What failed is raised too.
        if message["type"] == "lifespan.startup.complete":
            self._opened.set()
