"""A collector of traces: OTLP over HTTP on a real socket, read by the protocol's own messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from tests.support.command import PATIENCE
from tests.support.sockets import serving_in_a_thread


class Collector(ThreadingHTTPServer):
    """Keeps what it gets; one that hangs answers nobody until it is closed."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Export)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.closing = threading.Event()
        self.hangs = hangs
        #: The requests that have come, whole and by their paths.
        self.paths: list[str] = []
        self.exported: list[ResourceSpans] = []

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for resource in list(self.exported)
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def handle_error(self, *_: Any) -> None:
        """A router that went away in the midst of it."""


class _Export(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        if self.server.hangs:
            self.server.closing.wait(PATIENCE)
            return
        self.server.exported += ExportTraceServiceRequest.FromString(body).resource_spans
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nothing to say."""


@contextmanager
def collecting(*, hangs: bool = False) -> Iterator[Collector]:
    collector = Collector(hangs=hangs)
    with serving_in_a_thread(collector):
        try:
            yield collector
        finally:
            collector.closing.set()
