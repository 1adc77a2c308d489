"""Fan-out and reply: the whole router against targets that misbehave, over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.hostile import hostile
from tests.support.house import event, house, routes
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

#: By behaviour: the reason in the event's line, and how often the target got the request.
HOSTILE = {
    "refuses": ("connect_refused", 0),
    "never_accepts": ("connect_timeout", 0),
    "hangs": ("timeout", 0),
    "says_nothing": ("timeout", 1),
    "answers_late": ("timeout", 1),
    "drips": ("timeout", 1),
    "drips_headers": ("timeout", 1),
    "resets_before": ("reset", 1),
    "closes_before": ("reset", 1),
    "resets_within_headers": ("reset", 1),
    "resets_within_body": ("reset", 1),
    "closes_within_body": ("reset", 1),
    "closes_within_chunks": ("reset", 1),
    "endless_headers": ("too_large", 1),
    "huge_declared": ("too_large", 1),
    "huge_chunked": ("too_large", 1),
    "speaks_smtp": ("protocol", 0),
    "no_content": ("empty", 1),
    "not_modified": ("status", 1),
    "moved": ("redirect", 1),
    "found": ("redirect", 1),
    "temporary": ("redirect", 1),
    "status_500": ("status", 1),
    "code_500": ("code", 1),
    "code_0": ("code", 1),
    "code_number": ("code", 1),
    "code_blank": ("code", 1),
    "html": ("not_json", 1),
    "empty": ("empty", 1),
    "array": ("not_json", 1),
    "gzip": ("encoded", 1),
}

SOUND = ("resets_after", "closes_after", "http_1_0", "informational", "chunked", "says_close")


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_target_is_a_500_with_its_reason(name: str) -> None:
    """If a required target does anything but acknowledge, the reply is 500, the reason is one word,
    the request is sent once, and a good target beside it gets the event."""
    reason, seen = HOSTILE[name]
    async with hostile(name) as bad, hostile("answers") as good:
        # Short if it has to pass, otherwise long enough for a busy machine.
        timeout = "500ms" if reason.endswith("timeout") else "10s"
        targets = {"bad": {"url": bad.url, "timeout": timeout}, "good": good.url}
        async with house(routes(targets)) as router:
            reply = await router.post()
            line = await router.line("event")
        requests = len(bad.requests) if hasattr(bad, "requests") else 0
    assert (reply.status_code, reply.json()["code"]) == (500, "500")
    assert line["targets"]["bad"]["reason"] == reason
    assert line["targets"]["good"]["reason"] == "acknowledged"
    assert (requests, len(good.requests)) == (seen, 1)


@pytest.mark.parametrize("name", SOUND)
async def test_an_unusual_but_valid_answer_acknowledges(name: str) -> None:
    """Unusual but valid HTTP is not a failure."""
    async with hostile(name) as target, house(routes({"one": target.url})) as router:
        reply = await router.post()
    assert reply.json()["code"] == "000"


@pytest.mark.parametrize("name", ["refuses", "says_nothing", "code_500", "huge_chunked"])
async def test_an_optional_targets_failure_never_counts(name: str) -> None:
    """An optional target may fail in any way: the reply is 000 and does not wait for it, and
    without a store the loss is logged as an error with its owner."""
    async with hostile(name) as bad, hostile("answers") as good:
        optional = {"bad": {"url": bad.url, "timeout": "1s", "owner": "team x"}}
        async with house(routes({"good": good.url}, optional)) as router:
            started = time.monotonic()
            reply = await router.post()
            waited = time.monotonic() - started
            event_line, lost = await router.line("event"), await router.line("lost")
    assert reply.json()["code"] == "000"
    assert waited < 1.0 or name != "says_nothing"
    assert event_line["targets"]["bad"]["as"] == "optional"
    assert (event_line["level"], lost["level"]) == ("error", "error")
    assert (lost["target"], lost["owner"]) == ("bad", "team x")


async def test_an_event_with_only_optional_targets_is_acknowledged_at_once() -> None:
    async with hostile("says_nothing") as bad:
        optional = {"bad": {"url": bad.url, "timeout": "500ms"}}
        async with house(routes(optional=optional)) as router:
            reply = await router.post()
            line = await router.line("event")
    assert reply.json()["code"] == "000"
    assert line["targets"]["bad"]["reason"] == "timeout"
    assert line["targets"]["bad"]["late"] is True


async def test_all_targets_are_called_at_once() -> None:
    """Five targets hold their answers until all five have the request."""
    together = asyncio.Barrier(5)

    async def answer_together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await together.wait()
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"code":"000"}')
        await writer.drain()
        writer.close()

    async with AsyncExitStack() as stack:
        urls = {}
        for number in range(5):
            server = await stack.enter_async_context(
                await asyncio.start_server(answer_together, "127.0.0.1", 0)
            )
            urls[f"t{number}"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with house(routes(urls)) as router:
            assert (await router.post()).json()["code"] == "000"


async def test_the_reply_goes_out_by_reply_within_and_the_attempt_runs_on() -> None:
    """A target slower than `reply_within` makes the reply 500 in time; its late acknowledgement is
    in the event's line."""
    async with hostile("answers_late", seconds=1.0) as slow:
        table = routes({"slow": slow.url}, ebaas={"reply_within": "300ms"})
        async with house(table) as router:
            started = time.monotonic()
            reply = await router.post()
            waited = time.monotonic() - started
            line = await router.line("event")
    assert reply.json()["code"] == "500"
    assert waited < 1.0
    slow_line = line["targets"]["slow"]
    assert (slow_line["reason"], slow_line["late"]) == ("acknowledged", True)


async def test_a_failure_waits_until_every_required_target_is_decided() -> None:
    """One failure does not end the request: a retry would overlap the attempts in flight."""
    async with (
        hostile("code_500") as bad,
        hostile("answers_late", seconds=0.3) as slow,
        house(routes({"bad": bad.url, "slow": slow.url})) as router,
    ):
        await router.post()
        line = await router.line("event")
    assert line["targets"]["slow"]["reason"] == "acknowledged"
    assert "late" not in line["targets"]["slow"]


def each_its_own(**targets: Any) -> dict[str, Any]:
    """Return a routes.yaml with a route for each target, by its name."""
    routes = [{"name": name, "match": f"{name}.*", "required": [name]} for name in targets]
    return {"version": 1, "targets": targets, "routes": routes}


async def test_a_hung_target_delays_no_event_that_does_not_need_it() -> None:
    """With its slots and its line full of hung attempts, only this target is `saturated`, and it
    has no more connections than slots. Events that come before it could have answered are
    refused."""
    async with hostile("says_nothing") as hung, hostile("answers") as good:
        table = each_its_own(
            hung={"url": hung.url, "timeout": "3s", "max_in_flight": 4}, good={"url": good.url}
        )
        async with house(table) as router:
            stuck = [asyncio.create_task(router.post(event(event_key="hung.1"))) for _ in range(20)]
            await until(lambda: hung.open >= 4)
            honest = [await router.post(event(event_key="good.1")) for _ in range(50)]
            assert all(not task.done() for task in stuck[:4])
            replies = await asyncio.gather(*stuck)
            codes = Counter(reply.json()["code"] for reply in replies)
            await router.line("event", 50 + codes["500"])
            reasons = Counter(
                line["targets"]["hung"]["reason"]
                for line in router.lines
                if line["happening"] == "event" and "hung" in line["targets"]
            )
    assert {reply.json()["code"] for reply in honest} == {"000"}
    assert codes.keys() <= {"500", "503"}
    assert reasons == {"timeout": 4, "saturated": codes["500"] - 4}
    assert reasons["saturated"] >= 4
    assert hung.connections == 4


async def test_no_target_may_hold_more_than_its_share_of_all_requests() -> None:
    """However large its `max_in_flight`, a target holds at most half of `--max-requests`, so that a
    target that hangs leaves room for the others."""
    async with hostile("says_nothing") as hung, hostile("answers") as good:
        table = each_its_own(
            hung={"url": hung.url, "timeout": "2s", "max_in_flight": 1000}, good={"url": good.url}
        )
        async with house(table, max_requests=20) as router:
            stuck = [asyncio.create_task(router.post(event(event_key="hung.1"))) for _ in range(18)]
            await until(lambda: sum(task.done() for task in stuck) >= 8)
            assert (await router.post(event(event_key="good.1"))).json()["code"] == "000"
            assert not all(task.done() for task in stuck)
            await asyncio.gather(*stuck)
    assert hung.connections == 10
