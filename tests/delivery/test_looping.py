"""A router among its own targets, with a real store over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.flaky import SOON
from tests.support.house import House, house, routes, stand_in
from tests.support.rows import query
from tests.support.sockets import HeldPort
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

_OPEN = "SELECT target FROM deliveries WHERE state IN ('awaiting', 'queued')"


def dead_letters(router: House) -> list[dict[str, Any]]:
    return [line for line in router.lines if line["happening"] == "dead_letter"]


@asynccontextmanager
async def looping(required: Mapping[str, str], store: Path, **top: Any) -> AsyncIterator[House]:
    """Run a router whose optional target is itself."""
    with closing(HeldPort()) as own:
        me = f"http://127.0.0.1:{own.number}/callback"
        listener = own.listen()
    table = routes(required, {"me": me}, **SOON, **top)
    async with house(table, listener=listener, store=store) as router:
        yield router


@pytest.mark.parametrize("http_status", ["mirror", "ok"])
async def test_a_router_that_is_its_own_optional_target_sends_four_times(
    http_status: str, tmp_path: Path
) -> None:
    """The other target gets one callback at most four times. Then the queue is empty: the delivery
    that came back is a dead letter at once, and its reason says why."""
    store = tmp_path / "store.db"
    async with (
        stand_in() as (url, seen),
        looping({"ledger": url}, store, ebaas={"http_status": http_status}) as router,
    ):
        assert (await router.post()).json()["code"] == "000"
        await until(lambda: len(seen) > 4 or dead_letters(router))
        await until(lambda: len(seen) > 4 or not query(store, _OPEN))
        dead = dead_letters(router)
    assert len(seen) == 4
    assert [(line["target"], line["reason"]) for line in dead] == [("me", "looping")]


async def test_a_retry_counts_on_from_where_the_event_had_come(tmp_path: Path) -> None:
    """A retry of the queue has the same number of routers in its header as the first attempt."""
    store = tmp_path / "store.db"
    from_a_router = {"x-ebaas-target": "me", "x-ebaas-hops": "1"}
    async with stand_in(code="500") as (url, seen):
        table = routes(optional={"audit": url}, **SOON)
        async with house(table, store=store) as router:
            assert (await router.post(headers=from_a_router)).json()["code"] == "000"
            await until(lambda: len(seen) >= 3)
            assert (await router.line("event"))["hops"] == 2
    assert {request.headers.get("x-ebaas-hops") for request in seen} == {"2"}
