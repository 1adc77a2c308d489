"""The contract, both directions, over real sockets against a real server."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router import __version__
from tests.support.house import SAMPLE, House, event, house, on_each_server, routes, stand_in

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def accepting(**settings: Any) -> AsyncIterator[House]:
    """Run a router that accepts every valid event, though no route matches it."""
    table = routes({"nobody": "http://127.0.0.1:9/"}, match="no.such.event.key", unmatched="accept")
    async with house(table, **settings) as running:
        yield running


server = on_each_server("module", autouse=True)


@pytest.fixture(scope="module")
async def accepted(server: str) -> AsyncIterator[tuple[House, list[Any]]]:
    """A router and its target's requests, for tests that leave no trace in it."""
    async with stand_in() as (url, seen), house(routes({"one": url})) as router:
        yield router, seen


@pytest.mark.parametrize(
    ("code", "status", "msg"),
    [("000", 200, "成功"), ("500", 500, "服务调用异常，请稍后再试或联系管理员")],
)
async def test_the_reply_is_the_pages(code: str, status: int, msg: str) -> None:
    """Success only if the required target acknowledges; the failure names no target."""
    async with stand_in(code=code) as (url, seen), house(routes({"one": url})) as router:
        reply = await router.post()
    assert (reply.status_code, len(seen)) == (status, 1)
    assert reply.headers["content-type"] == "application/json"
    request_id = reply.json()["request_id"]
    assert list(reply.json().items()) == [("request_id", request_id), ("code", code), ("msg", msg)]
    assert str(uuid.UUID(request_id)) == request_id


PAGE = ["event_source", "event_topic", "event_type", "event_status", "changes"]


async def test_a_faulty_field_is_named_in_the_pages_words(
    accepted: tuple[House, list[Any]],
) -> None:
    """A field that is absent, null, empty or of a wrong type; the page's first of several."""
    router, _ = accepted

    async def fault(**fields: Any) -> str:
        reply = await router.post(event(**fields))
        assert (reply.status_code, reply.json()["code"]) == (400, "400")
        return str(reply.json()["msg"])

    for field in PAGE:
        for missing in (..., None, ""):
            assert await fault(**{field: missing}) == f"参数{field}不能为空"
    for field in (*PAGE, "event_key"):
        expected, other = ("数组", "text") if field == "changes" else ("字符串", [])
        for wrong in (7, 0, True, False, {"a": 1}, {}, other):
            msg = f"参数{field}类型错误，应为{expected}"
            assert await fault(**{field: wrong}) == msg
    for first in range(len(PAGE) - 1):
        assert PAGE[first] in await fault(**{**dict.fromkeys(PAGE[first:], 1), PAGE[-1]: ...})


@pytest.mark.parametrize(
    ("field", "forged"),
    [
        ("event_source", {"event_source": "ebaas-router"}),
        ("event_source", {"event_source": "ebaas-router", "event_key": None}),
        ("event_key", {"event_key": "ebaas-router.target.failing.ledger"}),
    ],
)
async def test_nobody_sends_the_routers_own_events(
    accepted: tuple[House, list[Any]], field: str, forged: dict[str, Any]
) -> None:
    """A forged event of the router itself is a 400, and reaches no target."""
    router, seen = accepted
    before = len(seen)
    reply = await router.post(event(**forged))
    assert (reply.status_code, reply.json()["msg"]) == (400, f"参数{field}的值不在允许的范围内")
    assert len(seen) == before


FAITHFUL = {
    "blanks and newlines": json.dumps(json.loads(SAMPLE), indent=4).encode() + b"\n",
    "escaped slashes": SAMPLE.replace(b"id1", b"a\\/b"),
    "surrogates in pairs": SAMPLE.replace(b"id1", b"\\ud83d\\ude00"),
    "unknown fields": SAMPLE[:-1] + b',"tenant":{"id":7.0e1}}',
    "Chinese": SAMPLE.replace(b"id1", "证书".encode()),
    "a null key": event(event_key=None),
}


@pytest.mark.parametrize("name", FAITHFUL)
async def test_the_body_reaches_every_target_byte_for_byte(name: str) -> None:
    """A valid body is forwarded byte for byte."""
    body = FAITHFUL[name]
    async with (
        stand_in() as (first, seen_first),
        stand_in() as (second, seen_second),
        house(routes({"one": first}, {"two": second})) as router,
    ):
        reply = await router.post(body)
        await router.line("event")
    assert reply.json()["code"] == "000"
    assert [request.body for request in seen_first + seen_second] == [body, body]


@pytest.mark.parametrize("key", [..., None, "", "x.y"], ids=["absent", "null", "empty", "own"])
async def test_a_key_that_is_not_given_is_derived(key: Any) -> None:
    """The four fields joined by dots are matched. A given key wins; the log shows both."""
    match = key if key == "x.y" else "a.gs.cert.9"
    async with stand_in() as (url, seen), house(routes({"one": url}, match=match)) as router:
        reply = await router.post(event(event_key=key, event_status="9"))
        line = await router.line("event")
    assert (reply.json()["code"], len(seen)) == ("000", 1)
    assert (line["event_key"], line.get("derived_key", match)) == (match, "a.gs.cert.9")


async def test_no_route_is_a_500_unless_unmatched_is_accepted() -> None:
    """`unmatched: reject` fails, `accept` acknowledges; both are logged."""
    nobody = {"nobody": "http://127.0.0.1:9/"}
    for unmatched, code in (("reject", "500"), ("accept", "000")):
        async with house(routes(nobody, match="x.*", unmatched=unmatched)) as router:
            reply = await router.post()
            assert reply.json()["code"] == code
            assert (await router.line("unmatched"))["event_key"] == "a.gs.cert.1"


@pytest.mark.parametrize(
    ("method", "path", "status", "msg", "allowed"),
    [
        ("POST", "/callback2", 404, "请求路径不存在", None),
        ("GET", "/callback", 405, "请求方法不支持", "POST"),
        ("OPTIONS", "/callback", 405, "请求方法不支持", "POST"),
        ("POST", "/livez", 405, "请求方法不支持", "GET, HEAD"),
    ],
)
async def test_a_wrong_path_or_method_is_answered_in_the_contracts_json(
    accepted: tuple[House, list[Any]],
    method: str,
    path: str,
    status: int,
    msg: str,
    allowed: str | None,
) -> None:
    """404 and 405 are replies like every other. A 405 lists the allowed methods."""
    router, _ = accepted
    reply = await router.http.request(method, router.url + path, content=SAMPLE)
    assert (reply.status_code, reply.headers.get("allow")) == (status, allowed)
    assert (reply.json()["code"], reply.json()["msg"]) == (str(status), msg)
    assert reply.json()["request_id"]


async def test_a_path_is_matched_as_a_whole(accepted: tuple[House, list[Any]]) -> None:
    """Similar paths are not found; an escape stands for its character."""
    router, _ = accepted
    statuses = {
        path: (await router.http.get(router.url + path)).status_code
        for path in ("/livez/", "/livez%0a", "/x/livez", "/LIVEZ", "/%6civez?x=y")
    }
    assert list(statuses.values()) == [404, 404, 404, 404, 200]


async def test_the_probes_speak_the_contract_too() -> None:
    """`/livez` and `/readyz` reply with 200 and the contract's success, HEAD with its headers."""
    async with accepting() as router:
        for path in ("/livez", "/readyz"):
            reply = await router.http.get(router.url + path)
            assert (reply.status_code, reply.json()["code"]) == (200, "000")
            bare = await router.http.head(router.url + path)
            assert (bare.status_code, bare.content) == (200, b"")
            assert bare.headers["content-length"] == reply.headers["content-length"]


async def test_a_content_encoding_is_refused() -> None:
    """A compressed body is a 415; `identity` means no compression."""
    async with accepting() as router:
        for encoding in ("gzip", "br", "gzip, identity"):
            reply = await router.post(headers={"content-encoding": encoding})
            assert (reply.status_code, reply.json()["code"]) == (415, "415")
        both = [("content-encoding", "gzip"), ("content-encoding", "identity")]
        assert (await router.post(headers=both)).status_code == 415
        for plain in ("identity", "Identity", ""):
            reply = await router.post(headers={"content-encoding": plain})
            assert reply.json()["code"] == "000"


async def test_a_chunked_body_is_refused_while_it_streams_and_memory_stays_bounded() -> None:
    """An endless chunked body gets its 413 before it ends, at the cost of a few buffers."""
    async with accepting(max_body=100_000) as router:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(router.url.split(":")[-1]))
        writer.write(b"POST /callback HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        tracemalloc.start()

        async def send_without_end() -> None:
            while True:
                writer.write(chunk)
                await writer.drain()

        sending = asyncio.create_task(send_without_end())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readuntil(b"}")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            sending.cancel()
            writer.close()
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["code"] == "413"
    assert peak < 20 * 1024 * 1024


async def test_http_status_ok_answers_200_throughout() -> None:
    """Every POST to the callback path gets 200 with `http_status: ok`; the body has the code."""
    nobody = {"nobody": "http://127.0.0.1:9/"}
    table = routes(nobody, match="x.*", ebaas={"http_status": "ok"})
    async with house(table, max_body=1000) as router:
        for body, headers, code in (
            (SAMPLE, {}, "500"),
            (b"{", {}, "400"),
            (b" " * 1001, {}, "413"),
            (SAMPLE, {"content-encoding": "gzip"}, "415"),
        ):
            reply = await router.post(body, headers=headers)
            assert (reply.status_code, reply.json()["code"]) == (200, code)


async def test_a_sane_request_id_is_kept_and_any_other_replaced() -> None:
    """The caller's x-request-id is returned and forwarded if it is a plain token."""
    async with stand_in() as (url, seen), house(routes({"one": url})) as router:
        reply = await router.post(headers={"x-request-id": "abc-1.2:3"})
        assert reply.json()["request_id"] == "abc-1.2:3"
        for hostile in ("", "a b", "a" * 129, 'a"b', "a;b"):
            reply = await router.post(headers={"x-request-id": hostile})
            assert uuid.UUID(reply.json()["request_id"])
    assert seen[0].headers["x-request-id"] == "abc-1.2:3"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_targets_get_exactly_the_listed_headers() -> None:
    """The router's and configured ones, which replace the router's; none of the caller's."""
    own = {"Authorization": "Bearer t", "User-Agent": "house/7"}
    async with stand_in() as (url, seen), house(routes({"one": url})) as router:
        await router.post(
            event(event_key="a b\r\nx: y/证"),
            headers={"traceparent": TRACE, "cookie": "c=1", "x-forwarded-for": "1.2.3.4"},
        )
    async with (
        stand_in() as (url, other),
        house(routes({"one": {"url": url, "headers": own}})) as router,
    ):
        await router.post()
    headers = seen[0].headers
    usual = (
        "host accept user-agent content-type content-length x-request-id x-ebaas-event-key "
        "x-ebaas-target x-ebaas-attempt x-ebaas-first-at x-ebaas-cause webhook-id "
        "webhook-timestamp"
    )
    assert headers.keys() == {*usual.split(), "traceparent"}
    assert other[0].headers.keys() == {*usual.split(), "authorization"}
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["x-ebaas-event-key"] == "a%20b%0D%0Ax%3A%20y%2F%E8%AF%81"
    assert headers["x-ebaas-target"] == "one"
    assert headers["user-agent"] == f"ebaas-router/{__version__}"
    assert [other[0].headers[name] for name in ("authorization", "user-agent")] == [*own.values()]
    assert headers["traceparent"] == TRACE
    assert uuid.UUID(headers["webhook-id"])
    assert headers["webhook-timestamp"].isdigit()


@pytest.mark.parametrize(
    ("parent", "states", "passed"),
    [
        (TRACE, ["a=1"], "a=1"),
        (TRACE, ["a=1", "b=2"], "a=1,b=2"),
        (TRACE, ["a=" + "x" * 511], None),
        (TRACE, ["a=\xe4"], None),
        ("00-" + "0" * 32 + "-" + "1" * 16 + "-01", ["a=1"], None),
    ],
)
async def test_a_trace_context_is_passed_on_if_it_is_valid(
    parent: str, states: list[str], passed: str | None
) -> None:
    """Headers of state become one list; an invalid traceparent is dropped with it."""
    async with stand_in() as (url, seen), house(routes({"one": url})) as router:
        fields = [("traceparent", parent), *(("tracestate", state) for state in states)]
        await router.post(headers=[(n, v.encode("latin-1")) for n, v in fields])
        line = await router.line("event")
    expected = parent if parent == TRACE else None
    assert line.get("trace_id") == (expected and expected[3:35])
    assert seen[0].headers.get("traceparent", "")[:35] == (expected or "")[:35]
    assert seen[0].headers.get("tracestate") == passed


async def test_bodies_that_trickle_in_take_up_no_place() -> None:
    """Incomplete bodies do not count against `--max-requests`."""
    head = b"POST /callback HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
    async with accepting(max_requests=2) as router:
        port = int(router.url.split(":")[-1])
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for _, writer in slow:
            writer.write(head)
        for _ in range(20):
            assert (await router.post()).json()["code"] == "000"
        for _, writer in slow:
            writer.close()


OPERATOR = {
    "required": ["tenant"],
    "properties": {
        "event_status": {"enum": ["1", "2"]},
        "event_type": {"pattern": "^c"},
        "changes": {"items": {"type": "string", "maxLength": 8}, "minItems": 1},
        "tenant": {"type": "string"},
    },
    "maxProperties": 8,
}


@pytest.mark.parametrize(
    ("fields", "msg"),
    [
        ({"tenant": "t"}, None),
        ({}, "参数tenant不能为空"),
        ({"tenant": 7}, "参数tenant类型错误，应为字符串"),
        ({"tenant": "t", "event_status": "9"}, "参数event_status的值不在允许的范围内"),
        ({"tenant": "t", "event_type": "x"}, "参数event_type格式错误"),
        ({"tenant": "t", "changes": ["123456789"]}, "参数changes[0]长度不符合要求，应不超过8"),
        ({"tenant": "t", "changes": []}, "参数changes长度不符合要求，应不小于1"),
        ({"event_source": ""}, "参数event_source不能为空"),
        ({"tenant": "t", "x": 8, "y": 9}, "请求体不符合要求"),
    ],
)
async def test_an_operators_schema_adds_rules(
    tmp_path: Path, fields: dict[str, Any], msg: str | None
) -> None:
    """`--schema` adds rules, with the same messages; it cannot loosen the contract."""
    file = tmp_path / "stricter.json"
    file.write_text(json.dumps(OPERATOR))
    async with accepting(schema=file) as router:
        reply = await router.post(event(**fields))
    if msg is None:
        assert reply.json()["code"] == "000"
    else:
        assert (reply.status_code, reply.json()["msg"]) == (400, msg)
