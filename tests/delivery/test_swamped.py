"""More events at a time than the router can handle: no target is to blame."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from router.delivery.forwarder import OVERLOADED
from tests.support.hostile import hostile
from tests.support.house import event, house, routes, stand_in
from tests.support.rows import query
from tests.support.waiting import until
from tests.support.wire import Line, answer_on, post

pytestmark = pytest.mark.anyio

#: Many more than there are slots and waiters.
CROWD = 30


@pytest.mark.parametrize("as_optional", [False, True])
async def test_events_that_come_too_fast_are_refused_unsent(
    as_optional: bool, tmp_path: Path
) -> None:
    """A crowd arrives while the loop is blocked. Events without room at a target that has had no
    time to answer get 503: no target gets them, nothing is recorded, and no target is
    `saturated`."""
    store = tmp_path / "store.db"
    async with stand_in() as (url, seen), stand_in() as (other_url, others):
        narrow = {"narrow": {"url": url, "max_in_flight": 1}}
        wide = {"wide": other_url}
        table = routes(wide, narrow) if as_optional else routes({**wide, **narrow})
        async with house(table, store=store) as router:
            with ExitStack() as stack:
                # The loop gets no turn before all of them have arrived.
                lines = [stack.enter_context(Line(router.address[1])) for _ in range(CROWD)]
                for number, line in enumerate(lines):
                    line.say(post(body=event(changes=[number])))
                heards = [asyncio.to_thread(answer_on, line) for line in lines]
                replies = await asyncio.gather(*heards)
            codes = Counter(reply.says["code"] for reply in replies)
            await router.line("event", codes["000"])
            refused = {line["why"] for line in router.lines if line["happening"] == "refused"}
        metrics, forwarder = router.app.metrics, router.app.callbacks.forwarder
    assert forwarder is not None
    assert forwarder._memory._live == {}
    assert set(codes) == {"000", "503"}
    assert (len(seen), len(others)) == (codes["000"], codes["000"])
    assert refused == {OVERLOADED}
    assert query(store, "SELECT count(*) FROM deliveries") == [(0,)]
    assert metrics.of("narrow").attempts["saturated"] == 0


async def test_a_target_that_does_not_answer_is_saturated_all_the_same() -> None:
    """If the router keeps up, a target that holds all its slots is `saturated`, and the others get
    the event."""
    async with hostile("says_nothing") as hung, stand_in() as (url, seen):
        policy: dict[str, Any] = {"url": hung.url, "timeout": "60s", "max_in_flight": 1}
        # The target's share is one slot and no line.
        async with house(routes({"hung": policy, "good": url}), max_requests=2) as router:
            holds = asyncio.create_task(router.post())
            await until(lambda: hung.requests)
            code = "503"
            async with asyncio.timeout(20.0):
                while code == "503":
                    code = (await router.post()).json()["code"]
            line = await router.line("event")
            holds.cancel()
    assert code == "500"
    assert line["targets"]["hung"]["reason"] == "saturated"
    assert line["targets"]["good"]["reason"] == "acknowledged"
    assert len(seen) == 2
