"""The API without a running router, as commands use it: over a store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from router.archive.reading import Sources
from router.config.holders import PERMISSIONS, TokenHolder
from router.ops.api.application import ENDPOINTS, PREFIX, app_for
from router.ops.api.view import ApiParts, Stored
from router.ops.searching import SearchHere
from router.store.admin import Admin
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from tests.support.shop import SqliteShop

#: The statuses for an event that does not exist, and without a running router.
NOT_THERE, NO_ROUTER = 404, 409


def test_every_endpoint_replies_without_a_router(tmp_path: Path) -> None:
    """From the store, or with a problem; none fails."""
    store = tmp_path / "store.db"
    SqliteShop(store).close()
    assert asyncio.run(answers(store)) == {
        "/you": 200,
        "/status": NO_ROUTER,
        "/minutes": NO_ROUTER,
        "/targets": NO_ROUTER,
        "/targets/{name}": NO_ROUTER,
        "/routes": NO_ROUTER,
        "/nodes": NO_ROUTER,
        "/stream": NO_ROUTER,
        "/pauses": 200,
        "/archive": NOT_THERE,
        "/refused": NOT_THERE,
        "/events": 200,
        "/events/{id}": NOT_THERE,
        "/deliveries": 200,
        "/deliveries/actions": 200,
        "/deliveries/outcome": 400,
        "/openapi.json": 200,
    }


async def answers(path: Path) -> dict[str, int]:
    """Return the status of each GET endpoint."""
    ops = await look_into(path, StoreLimits(1 << 40))

    async def opening() -> Admin:
        return ops

    stored = Stored(opening, None, None)
    search = SearchHere(Sources(None), stored.question)
    parts = ApiParts(None, None, stored, search, is_shared=False)
    app = app_for(TokenHolder("ops", frozenset(PERMISSIONS)), parts)
    transport = httpx.ASGITransport(app)
    statuses = {}
    async with httpx.AsyncClient(transport=transport, base_url=f"http://localhost{PREFIX}") as http:
        for each in ENDPOINTS:
            if each.method == "GET":
                answer = await http.get(each.path.replace("{", "").replace("}", ""))
                statuses[each.path] = answer.status_code
    await ops.close()
    return statuses
