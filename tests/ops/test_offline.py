"""The API without a running router, as commands use it: over a store alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from router.config.holders import DEEDS, TokenHolder
from router.ops.api.application import ENDPOINTS, PREFIX, app_for
from router.ops.api.parts import ApiParts, SearchHere, Stored
from router.store.admin import Admin
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from tests.support.shop import SqliteShop

#: What is asked for an event that is not there, and for what only a router knows.
NOT_THERE, NO_ROUTER = 404, 409


def test_what_only_a_router_knows_says_so(tmp_path: Path) -> None:
    """Whatever is asked, it is answered from the store, or with one sentence; nothing fails."""
    shop = SqliteShop(tmp_path / "store.db")
    assert asyncio.run(answers(Path(shop.option))) == {
        "/you": NO_ROUTER,
        "/status": NO_ROUTER,
        "/minutes": NO_ROUTER,
        "/targets": NO_ROUTER,
        "/targets/{name}": NO_ROUTER,
        "/routes": NO_ROUTER,
        "/nodes": NO_ROUTER,
        "/stream": NO_ROUTER,
        "/pauses": 200,
        "/archive": NOT_THERE,
        "/events": 200,
        "/events/{id}": NOT_THERE,
        "/deliveries": 200,
        "/deliveries/actions": 200,
        "/deliveries/{id}": NOT_THERE,
        "/openapi.json": 200,
    }


async def answers(path: Path) -> dict[str, int]:
    """The status of each thing that can be asked for."""
    ops = await look_into(path, StoreLimits(1 << 40, 1 << 40))

    async def opening() -> Admin:
        return ops

    stored = Stored(opening, None, None)
    search = SearchHere(None, stored, print, print)
    parts = ApiParts(None, None, stored, search, is_shared=False)
    app = app_for(TokenHolder("ops", frozenset(DEEDS)), parts)
    transport = httpx.ASGITransport(app)
    said = {}
    async with httpx.AsyncClient(transport=transport, base_url=f"http://localhost{PREFIX}") as http:
        for each in ENDPOINTS:
            if each.method == "GET":
                answer = await http.get(each.path.replace("{", "").replace("}", ""))
                said[each.path] = answer.status_code
    await ops.close()
    return said
