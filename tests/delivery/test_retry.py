"""Delivery memory: the whole router with a real store; whom a retry calls, and what is kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from router.contract.replies import ACKNOWLEDGED, FAILED
from tests.support.flaky import SOON, Flaky, hang_up, served
from tests.support.hostile import hostile
from tests.support.house import PATIENCE, SAMPLE, event, house, routes
from tests.support.inprocess import ran
from tests.support.rows import query
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def rows(store: Path) -> dict[str, str]:
    """Return the deliveries in the store: targets and states."""
    connection = sqlite3.connect(store)
    try:
        return dict(connection.execute("SELECT target, state FROM deliveries").fetchall())
    finally:
        connection.close()


async def test_a_retry_reaches_only_who_still_needs_it(store: Path) -> None:
    """One of two required targets fails once: the retry calls it alone, under the same id, and the
    line says which request it was and what it skipped."""
    flaky, steady = Flaky(1), Flaky(0)
    one, one_url = await served(flaky)
    two, two_url = await served(steady)
    async with (
        one,
        two,
        house(routes({"flaky": one_url, "steady": two_url}), store=store) as router,
    ):
        first = await router.post()
        again = await router.post()
        line = await router.line("event", 2)
    assert (first.json()["code"], again.json()["code"]) == ("500", "000")
    assert (len(flaky.ids), len(steady.ids)) == (2, 1)
    assert len({*flaky.ids, *steady.ids}) == 1
    assert (line["request"], line["of"]) == (2, 21)
    assert line["targets"]["steady"] == {"as": "required", "skipped": "acknowledged"}


async def test_a_healthy_event_leaves_nothing_behind(store: Path) -> None:
    """All targets acknowledge, optional ones included: no row is written, and the same body again
    is a new event."""
    async with hostile("answers") as one, hostile("answers") as two:
        async with house(routes({"one": one.url}, {"two": two.url}), store=store) as router:
            for _ in range(3):
                assert (await router.post()).json()["code"] == "000"
        assert (len(one.requests), len(two.requests)) == (3, 3)
    assert rows(store) == {}


async def test_an_optional_failure_is_queued_and_retried(store: Path) -> None:
    """The 000 does not wait for it; the queue retries it under the same id until it is
    acknowledged."""
    flaky = Flaky(2)
    server, url = await served(flaky)
    async with server, hostile("answers") as good:
        table = routes({"good": good.url}, {"flaky": url}, **SOON)
        async with house(table, store=store) as router:
            assert (await router.post()).json()["code"] == "000"
            await until(lambda: rows(store)["flaky"] == "acknowledged")
            await router.line("retried", 2)
    assert len(flaky.ids) == 3
    assert len(set(flaky.ids)) == 1


async def test_what_is_queued_survives_a_restart(store: Path) -> None:
    """The next run of the router continues the queue."""
    flaky = Flaky(1)
    server, url = await served(flaky)
    async with server:
        table = routes(optional={"flaky": url}, queue={"retries": 1, "waits": ["2s"]})
        async with house(table, store=store) as router:
            await router.post()
        assert rows(store) == {"flaky": "queued"}
        async with house(table, store=store) as router:
            await router.line("retried")
    assert len(set(flaky.ids)) == 1
    assert rows(store) == {"flaky": "acknowledged"}


@pytest.mark.parametrize("half", [False, True], ids=["closes", "closes its side alone"])
async def test_a_caller_that_hangs_up_is_noticed_at_once(store: Path, half: bool) -> None:
    """The event is recorded while its slow target still works, and the late acknowledgement counts:
    the retry calls no target again."""
    async with hostile("answers_late", seconds=1.0) as slow, hostile("answers") as quick:
        table = routes({"slow": slow.url, "quick": quick.url})
        async with house(table, store=store) as router:
            await hang_up(router, slow, half)
            await until(lambda: rows(store) == {"slow": "awaiting", "quick": "acknowledged"})
            line = await router.line("event")
            again = await router.post()
            second = await router.line("event", 2)
        assert (len(slow.requests), len(quick.requests)) == (1, 1)
    assert (line["code"], line["targets"]["slow"]["late"]) == ("", True)
    assert again.json()["code"] == "000"
    assert {target["skipped"] for target in second["targets"].values()} == {"acknowledged"}


async def test_a_retry_joins_the_attempt_in_flight(store: Path) -> None:
    """A target that outlives `reply_within` is not called twice at a time."""
    async with hostile("answers_late", seconds=1.5) as slow:
        table = routes({"slow": slow.url}, ebaas={"reply_within": "500ms"})
        async with house(table, store=store) as router:
            replies = [(await router.post()).json()["code"] for _ in range(2)]
            async with asyncio.timeout(PATIENCE):
                while replies[-1] != "000":
                    replies.append((await router.post()).json()["code"])
            lines = [line for line in router.lines if line["happening"] == "event"]
        assert len(slow.requests) == 1
    assert replies[:2] == ["500", "500"]
    assert any(line["targets"]["slow"].get("joined") for line in lines)


async def test_an_optional_target_over_its_share_makes_its_events_fail(store: Path) -> None:
    """If its delivery can't be queued, the event is not acknowledged: nothing may be lost."""
    async with hostile("answers") as good, hostile("code_500") as bad:
        table = routes({"good": good.url}, {"bad": bad.url})
        async with house(table, store=store, store_max_bytes=6 * 1024) as router:
            kept = await router.post(event(event_key="a.gs.cert.1"))
            lost = await router.post(event(event_key="a.gs.cert.2"))
            line = await router.line("event", 2)
    assert (kept.json()["msg"], lost.json()["msg"]) == (ACKNOWLEDGED.msg, FAILED.msg)
    assert line["unqueued"] is True


async def test_a_discarded_optional_delivery_is_not_sent_again(store: Path) -> None:
    """EBaaS's retry neither sends nor queues it again, and gets its 000 without it."""
    flaky, audit = Flaky(2), Flaky(10**6)
    one, one_url = await served(flaky)
    two, two_url = await served(audit)
    table = routes({"flaky": one_url}, {"audit": two_url}, queue={"retries": 5, "waits": ["600s"]})
    async with one, two, house(table, store=store) as router:
        await router.post()
        await until(lambda: rows(store).get("audit") == "queued")
        calls = len(audit.ids)
        which = ("--state", "queued", "--match", "*", "--store", str(store))
        await asyncio.to_thread(ran, "deliveries", "discard", *which)
        assert (await router.post()).status_code == 500
        assert (await router.post()).status_code == 200
        assert rows(store) == {"flaky": "acknowledged", "audit": "superseded"}
        assert len(audit.ids) == calls


async def test_a_store_that_fills_up_is_reported(store: Path) -> None:
    """From half of a target's share on there is a warning that names the target."""
    async with (
        hostile("code_500") as bad,
        house(routes({"bad": bad.url}), store=store, store_max_bytes=6 * 1024) as router,
    ):
        await router.post()
        line = await router.line("store_fuller")
    assert (line["level"], line["target"]) == ("warning", "bad")
    assert 0.5 <= line["fullness"] < 1.0


async def test_a_backlog_does_not_fail_at_its_targets_limit(store: Path) -> None:
    """The queue starts no more attempts than the target's limit, and waiting for a slot costs no
    retry: all are delivered in the end, each once."""
    flaky = Flaky(1, for_each=True)
    server, url = await served(flaky)
    audit = {"url": url, "max_in_flight": 1}
    async with server:
        table = routes(optional={"audit": audit}, queue={"retries": 1, "waits": ["100ms"]})
        async with house(table, store=store) as router:
            for number in range(6):
                await router.post(event(event_key=f"a.gs.cert.{number}"))
            await until(lambda: len(flaky.ids) == 12)
            await router.line("retried", 6)
            dead = [line for line in router.lines if line["happening"] == "dead_letter"]
    assert dead == []


async def test_the_end_of_a_connection_after_the_reply_is_not_a_hang_up(store: Path) -> None:
    """A connection that ends after the reply does not cancel an optional delivery that still
    waits."""
    async with hostile("answers_late", seconds=0.3) as slow, hostile("answers") as good:
        optional = {"slow": {"url": slow.url, "max_in_flight": 1}}
        async with house(routes({"good": good.url}, optional)) as router:
            for _ in range(2):
                await router.post(headers={"connection": "close"})
            await router.line("event", 2)
        assert len(slow.requests) == 2


async def test_failed_attempts_are_kept_in_the_receivers_words(store: Path) -> None:
    """Attempts of a request, of the queue, and one that outlives its reply; an acknowledgement is
    not kept, and the event's line has the words as well."""
    async with (
        hostile("code_500") as bad,
        hostile("answers") as good,
        hostile("hangs") as silent,
    ):
        slow = {"url": silent.url, "timeout": "500ms"}
        table = routes({"good": good.url}, {"bad": bad.url, "slow": slow}, **SOON)
        async with house(table, store=store) as router:
            assert (await router.post()).json()["code"] == "000"
            line = await router.line("event")
            await router.line("retried", 2)

            def kept() -> list[tuple[Any, ...]]:
                return [
                    *query(
                        store,
                        "SELECT target, request, retry, reason, code FROM attempts ORDER BY at",
                    )
                ]

            await until(lambda: {("slow", 1, 0, "timeout", ""), ("bad", 1, 0, "code", "500"),
                                 ("bad", 0, 1, "code", "500")} <= {*kept()})  # fmt: skip
    assert "good" not in {row[0] for row in kept()}
    failed = line["targets"]["bad"]
    assert (failed["code"], line["targets"]["good"].get("code")) == ("500", None)
    assert failed["msg"]
    assert line["level"] == "info"


async def test_an_events_line_has_its_ids_and_its_hash(store: Path) -> None:
    """The ids in `changes`, at most twenty and none too long, and the body's hash; a failure is a
    warning."""
    ids = ["id1", "证书", 7, {"id": 8}, "x" * 100, *map(str, range(30))]
    body = json.dumps({**json.loads(SAMPLE), "changes": ids}).encode()
    async with hostile("code_500") as bad:
        async with house(routes({"bad": bad.url}), store=store) as router:
            assert (await router.post(body)).json()["code"] == "500"
            line = await router.line("event")
        assert line["level"] == "warning"
        assert line["body"] == hashlib.sha256(body).hexdigest()[:12]
        first = ["id1", "证书", "7", '{"id": 8}', "x" * 64, *map(str, range(15))]
        assert line["changes"] == first
