"""`serve` with traces on: a real process, and a real collector that it exports to."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from tests.support.command import PATIENCE
from tests.support.receivers import answering
from tests.support.receivers import serving as receiving
from tests.support.serving import serving, target
from tests.support.waiting import wait_until


class Collector:
    """A collector of traces, OTLP over HTTP. If it hangs, it does not answer until it is closed."""

    url: str

    def __init__(self) -> None:
        self.closing = threading.Event()
        #: The paths of the requests received.
        self.paths: list[str] = []
        self.exported: list[ResourceSpans] = []

    @property
    def spans(self) -> list[Span]:
        scopes = (scope for resource in list(self.exported) for scope in resource.scope_spans)
        return [span for scope in scopes for span in scope.spans]


@contextmanager
def collecting(*, hangs: bool = False) -> Iterator[Collector]:
    collector = Collector()

    class Export(answering(b"", 200, ("content-type", "application/x-protobuf"))):  # type: ignore[misc]
        def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
            collector.paths.append(self.path)
            if hangs:
                collector.closing.wait(PATIENCE)
            exported = ExportTraceServiceRequest.FromString(body)
            collector.exported += exported.resource_spans
            return 200, ExportTraceServiceResponse().SerializeToString()

    with receiving(Export) as url:
        collector.url = url.removesuffix("/callback")
        try:
            yield collector
        finally:
            collector.closing.set()


#: Seconds: a second for the spans and what any stop takes, on a loaded machine. By itself
#: OpenTelemetry would wait ten and more.
STOPPED_WITHIN = 6.0


def variables(url: str, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}


def by_kind(collector: Collector) -> dict[str, int]:
    counts = {"SERVER": 0, "CLIENT": 0}
    for span in collector.spans:
        counts[span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")] += 1
    return counts


def test_a_collector_gets_each_callback_and_each_attempt(tmp_path: Path) -> None:
    """In the protocol's own form, under the router's name, as they end."""
    with collecting() as collector, target() as one, target() as two:
        given = variables(collector.url, OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test")
        with serving(tmp_path, {"one": one, "two": two}, environ=given) as router:
            assert router.post("first") == "000"
            wait_until(lambda: len(collector.spans) == 3)
            wait_until(lambda: router.lines("event"))
            (line,) = router.lines("event")
    assert set(collector.paths) == {"/v1/traces"}
    assert by_kind(collector) == {"SERVER": 1, "CLIENT": 2}
    (callback,) = [span for span in collector.spans if span.kind == span.SPAN_KIND_SERVER]
    assert (callback.trace_id.hex(), callback.span_id.hex()) == (line["trace_id"], line["span_id"])
    for span in collector.spans:
        attributes = {a.key: a.value.string_value for a in span.attributes}
        assert attributes["messaging.message.id"] == line["event_id"]
        assert attributes.get("ebaas_router.reason") in (None, "acknowledged")
    resource = {a.key: a.value.string_value for a in collector.exported[0].resource.attributes}
    assert resource["service.name"] == "ebaas-router"
    assert resource["deployment.environment"] == "test"


def test_a_stop_exports_what_there_is(tmp_path: Path) -> None:
    """A batch that is not due for long is exported by the stop."""
    with collecting() as collector, target() as one:
        given = variables(collector.url, OTEL_BSP_SCHEDULE_DELAY="600000")
        with serving(tmp_path, {"one": one}, environ=given) as router:
            for number in range(8):
                assert router.post(f"{number}") == "000"
            assert collector.spans == []
            assert router.interrupt(signal.SIGTERM) == 0
    assert by_kind(collector) == {"SERVER": 8, "CLIENT": 8}


def test_a_collector_that_hangs_costs_spans_and_no_event(tmp_path: Path) -> None:
    """Events get their 000, a stop waits at most a second, and lost spans are logged."""
    with collecting(hangs=True) as collector, target() as one:
        small = {"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}
        with serving(tmp_path, {"one": one}, environ=variables(collector.url, **small)) as router:
            assert router.post("first") == "000"
            wait_until(lambda: collector.paths)
            for number in range(20):
                assert router.post(f"{number}") == "000"
            wait_until(lambda: router.lines("library"))
            began = time.monotonic()
            assert router.interrupt(signal.SIGTERM) == 0
            assert time.monotonic() - began < STOPPED_WITHIN
    assert len(one.got) == 21
    assert router.lines("library")[0]["library"].startswith("opentelemetry.")
