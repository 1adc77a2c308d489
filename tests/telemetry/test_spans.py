"""The spans of a real router, from OpenTelemetry's exporter in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from router.config.settings import parse_path
from router.telemetry.spans import Spans
from router.telemetry.tracing import Tracing
from tests.support.house import SAMPLE, House, house, routes, stand_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
SOON = {"queue": {"retries": 3, "waits": ["100ms"]}}


class Seen:
    def __init__(self, sampler: Sampler = DEFAULT_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing(Spans(SimpleSpanProcessor(self._exporter), sampler))

    @property
    def all(self) -> list[ReadableSpan]:
        return [*self._exporter.get_finished_spans()]

    def _of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.all if span.kind is kind]

    async def of(self, kind: SpanKind, count: int = 1) -> list[ReadableSpan]:
        """Wait for the spans of a kind, in the order in which they ended."""
        await until(lambda: len(self._of(kind)) >= count)
        spans = self._of(kind)
        assert len(spans) == count
        return spans


@asynccontextmanager
async def traced(
    table: dict[str, Any], sampler: Sampler = DEFAULT_ON, **settings: Any
) -> AsyncIterator[tuple[House, Seen]]:
    seen = Seen(sampler)
    async with house(table, tracing=seen.tracing, **settings) as router:
        yield router, seen


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Return the ids of its trace, of its parent (`""` for none) and of the span."""
    assert span.context is not None
    parent = format_span_id(span.parent.span_id) if span.parent else ""
    return format_trace_id(span.context.trace_id), parent, format_span_id(span.context.span_id)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_callback_and_its_attempts_are_one_tree() -> None:
    """The callback's span is a child of the caller's, and the attempts' are children of it. Each
    target gets its attempt's span as trace context, and the log has the callback's."""
    async with (
        stand_in() as (one, at_one),
        stand_in() as (two, at_two),
        traced(routes({"one": one}, {"two": two})) as (router, seen),
    ):
        await router.post(headers={"traceparent": CALLER})
        line = await router.line("event")
        (callback,) = await seen.of(SpanKind.SERVER)
        attempts = await seen.of(SpanKind.CLIENT, 2)
    assert ids(callback) == (TRACE, CALLER[36:52], line["span_id"])
    assert {ids(span)[:2] for span in attempts} == {(TRACE, line["span_id"])}
    assert line["trace_id"] == TRACE
    ends = [span.end_time or 0 for span in (*attempts, callback)]
    assert (callback.start_time or 0) < min(ends) <= max(ends) == ends[-1]
    sent = {span.name: ids(span)[2] for span in attempts}
    for name, (got,) in {"one": at_one, "two": at_two}.items():
        assert got.headers["traceparent"] == f"00-{TRACE}-{sent[f'send {name}']}-01"


async def test_attributes_follow_the_conventions() -> None:
    """Attributes have the names for HTTP and messaging; the reason and the key have our own."""
    async with stand_in(code="700") as (url, _), traced(routes({"ledger": url})) as (router, seen):
        await router.post()
        line = await router.line("event")
        (callback,) = await seen.of(SpanKind.SERVER)
        (attempt,) = await seen.of(SpanKind.CLIENT)
    message = {
        "messaging.system": "ebaas",
        "messaging.message.id": line["event_id"],
        "messaging.message.body.size": len(SAMPLE),
        "ebaas_router.event_key": "a.gs.cert.1",
    }
    assert attributes(attempt) == message | {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.full": url,
        "server.address": "127.0.0.1",
        "server.port": int(url.rsplit(":", 1)[1].split("/")[0]),
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "ledger",
        "ebaas_router.reason": "code",
        "ebaas_router.code": "700",
        "error.type": "code",
    }
    assert attempt.status.status_code is callback.status.status_code is StatusCode.ERROR
    assert callback.name == "POST /callback"
    about = {"http.request.method": "POST", "http.response.status_code": 500, "url.scheme": "http"}
    about |= {"http.route": "/callback", "url.path": "/callback"}
    assert attributes(callback).items() >= (message | about).items()


@pytest.mark.parametrize(
    ("sampler", "caller"), [(ALWAYS_OFF, ""), (DEFAULT_ON, CALLER[:-2] + "00")]
)
async def test_unsampled_traces_are_passed_on(sampler: Sampler, caller: str) -> None:
    """Targets get an id without the flag, lines have theirs, and nothing is exported."""
    given = {"traceparent": caller} if caller else {}
    async with stand_in() as (url, got), traced(routes({"one": url}), sampler) as (router, seen):
        await router.post(headers=given)
        line = await router.line("event")
    version, trace, span, flags = got[0].headers["traceparent"].split("-")
    assert (version, trace, int(flags, 16) & 1) == ("00", line["trace_id"], 0)
    assert span not in (line["span_id"], caller[36:52])
    assert caller[3:35] in ("", trace)
    assert seen.all == []


async def test_a_state_stays_with_its_trace() -> None:
    """An invalid context begins a new trace without state; too long a state is dropped."""
    state = {"tracestate": "a=1,b=2"}
    async with stand_in() as (url, got), traced(routes({"one": url})) as (router, _):
        await router.post(headers={"traceparent": CALLER, **state})
        await router.post(headers={"traceparent": "00-" + "0" * 52, **state})
        long = ",".join(f"k{number}={'v' * 200}" for number in range(30))
        await router.post(headers={"traceparent": CALLER, "tracestate": long})
    assert [request.headers.get("tracestate", "") for request in got] == ["a=1,b=2", "", ""]
    assert TRACE not in got[1].headers["traceparent"]


async def test_a_retry_of_the_queue_is_a_child_of_its_callback(tmp_path: Path) -> None:
    """The callback's span has ended by then. A state without a valid trace is dropped."""
    stray = {"traceparent": f"00-{'0' * 32}-{'1' * 16}-01", "tracestate": "a=1"}
    async with stand_in(fail_first=2) as (url, got):
        table = routes(optional={"slow": url}, **SOON)
        async with traced(table, store=tmp_path / "store.db") as (router, seen):
            assert (await router.post(headers=stray)).json()["code"] == "000"
            await router.line("retried", 2)
            (callback,) = await seen.of(SpanKind.SERVER)
            first, *retries = await seen.of(SpanKind.CLIENT, 3)
    assert {request.headers.get("tracestate", "") for request in got} == {""}
    for retry, request in zip(retries, got[1:], strict=True):
        trace, _, own = ids(callback)
        assert ids(retry) == (trace, own, request.headers["traceparent"][36:52])
    reasons = [attributes(span)["ebaas_router.reason"] for span in (first, *retries)]
    assert reasons == ["status", "status", "acknowledged"]


async def test_a_refused_callback_has_a_span() -> None:
    """The span has the status of the reply. Probes have no span."""
    async with traced(routes({"one": "http://127.0.0.1:9/"})) as (router, seen):
        await router.post(b"{}")
        (callback,) = await seen.of(SpanKind.SERVER)
        assert (await router.http.get(router.url + "/livez")).status_code == 200
    assert attributes(callback)["http.response.status_code"] == 400
    assert len(seen.all) == 1


async def test_no_header_makes_an_event_fail() -> None:
    """An event gets its 000 with any header that HTTP allows."""
    names = (b"user-agent", b"traceparent", b"tracestate", b"baggage")
    values = (b"\xff\\x", b"\\ud800\xff", b"\\ud800", b"", b"=;,%ff" * 99, b"\xed\xa0\x80")
    async with stand_in() as (url, got), traced(routes({"one": url})) as (router, seen):
        for name, value in itertools.product(names, values):
            reply = await router.post(headers=[(name, value)])
            assert reply.json()["code"] == "000", (name, value)
        await seen.of(SpanKind.SERVER, len(names) * len(values))
    assert len(got) == len(names) * len(values)


async def test_no_secret_is_in_a_span() -> None:
    """Spans contain neither headers, nor secret parts of URLs and paths, nor bodies."""
    secrets = ["hidden-header", "hidden-query", "hidden-path", "hidden-token", "hidden-id"]
    async with stand_in() as (url, got):
        policy = {"url": f"{url}?key=hidden-query", "headers": {"Authorization": "hidden-header"}}
        table = routes({"one": policy}, ebaas={"token": "hidden-token" * 4})
        async with traced(table, path=parse_path("/callback/hidden-path")) as (router, seen):
            token = {"Authorization": "Bearer " + "hidden-token" * 4}
            body = SAMPLE.replace(b"id1", b"hidden-id")
            await router.post(body, "/callback/hidden-path?again=hidden-query", headers=token)
            await seen.of(SpanKind.SERVER)
            await seen.of(SpanKind.CLIENT)
    assert len(got) == 1
    text = "".join(span.to_json() for span in seen.all)
    assert [secret for secret in secrets if secret in text] == []
    assert "/callback/***" in text
