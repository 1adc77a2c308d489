"""The business endpoints of a soak: a healthy one, and faulty ones."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from router.cli.receive import StandIn

_Message = MutableMapping[str, Any]
_App = Callable[[_Message, Any, Any], Awaitable[None]]

#: Seconds of a target's phases, and the timeout of an attempt to it.
CYCLE, TIMEOUT = 9.0, 0.5


def well() -> _App:
    return StandIn()


def slow() -> _App:
    return StandIn(delay=0.2)


def mostly() -> _App:
    """Fail three times in ten."""
    good, bad = StandIn(), StandIn(code="500", status=500)
    chance = random.Random(1)

    async def app(scope: _Message, receive: Any, send: Any) -> None:
        await (bad if chance.random() < 0.3 else good)(scope, receive, send)

    return app


def flapping() -> _App:
    """Be healthy for a while, then fail in one way after another."""
    good, bad = StandIn(), StandIn(code="500", status=500)
    hanging, garbled = StandIn(delay=4 * TIMEOUT), _garbled

    async def app(scope: _Message, receive: Any, send: Any) -> None:
        share = time.monotonic() % CYCLE / CYCLE
        one = good if share < 0.6 else bad if share < 0.75 else hanging if share < 0.9 else garbled
        await one(scope, receive, send)

    return app


async def _garbled(scope: _Message, receive: Any, send: Any) -> None:
    """Violate the contract by a web server's page or a broken connection."""
    await receive()
    headers = [(b"content-type", b"text/html"), (b"content-length", b"9")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    half = random.random() < 0.5
    page = b"<p>hi" if half else b"<p>hi</p>"
    await send({"type": "http.response.body", "body": page, "more_body": half})


def by_path(apps: Mapping[str, _App]) -> _App:
    """Run all of them on one port, each at the path of its name."""

    async def app(scope: _Message, receive: Any, send: Any) -> None:
        await apps[scope["path"].removeprefix("/")](scope, receive, send)

    return app
