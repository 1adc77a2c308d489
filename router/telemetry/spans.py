"""OpenTelemetry: imported by this module only, and only if traces are enabled.

An event never waits for its spans: they are put into a bounded queue, from which OpenTelemetry's
thread exports them. Spans contain nothing that may be secret: no header but the user agent, no
body, and addresses only as they may be printed. Attributes are named by the conventions for HTTP
and for messaging, or `ebaas_router.…`.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router import __version__
from router.model.event import Attempt, OutboundEvent
from router.model.secret import MASK

Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

_W3C = TraceContextTextMapPropagator()
_CONTEXT = (b"traceparent", b"tracestate")


class Spans:
    """Makes the spans of callbacks and of attempts."""

    def __init__(self, processor: SpanProcessor, sampler: Sampler | None = None) -> None:
        """`processor` gets the sampled spans. By default, OpenTelemetry's variables choose the
        sampler; they always set the attributes of the service."""
        own = {"service.name": "ebaas-router", "service.version": __version__}
        given = OTELResourceDetector().detect().attributes
        resource = Resource.create({**own, **given})
        # `close` shuts it down, within the time of a stop.
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("ebaas-router", __version__)
        #: Headers with a trace context. Baggage is not used.
        self._fields = {name.encode() for name in get_global_textmap().fields} - {b"baggage"}

    @classmethod
    def exported(cls) -> Spans:
        """Export as OpenTelemetry's variables say. Raises ValueError if one is invalid."""
        return cls(BatchSpanProcessor(OTLPSpanExporter()))

    def around(self, callbacks: Asgi, path: str) -> Asgi:
        """Wrap an application: each request has a span, from its head to the end of the reply,
        which the application sees as the trace context. `path` is what spans show of the path."""

        async def serve(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            # Other values would make the propagators raise.
            headers = [field for field in scope["headers"] if field[1].isascii()]
            carrier = {n.decode(): value.decode() for n, value in headers if n in self._fields}
            parent = get_global_textmap().extract(carrier)
            method = "POST" if scope["method"] == "POST" else "_OTHER"  # it may be any text
            span = self._tracer.start_span(f"{method} {path}", parent, trace.SpanKind.SERVER)
            agent = dict(headers).get(b"user-agent", b"").decode()
            caller = (scope.get("client") or ("", 0))[0]
            span.set_attributes(
                {
                    "http.request.method": method,
                    "http.route": path,
                    "url.path": path,
                    "url.scheme": scope["scheme"],
                    "client.address": caller,
                    "user_agent.original": agent,
                }
            )

            async def noted(message: Any) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        _fail(span, str(message["status"]), "")
                await send(message)

            fields = [field for field in scope["headers"] if field[0] not in _CONTEXT]
            fields += [(n.encode(), text.encode("ascii")) for n, text in _context(span).items()]
            with trace.use_span(
                span, end_on_exit=True, record_exception=False, set_status_on_exception=False
            ):
                try:
                    await callbacks({**scope, "headers": fields}, receive, noted)
                except BaseException as error:
                    _fail(span, type(error).__name__, "")
                    raise

        return serve

    def attempt(
        self, target: str, url: str, letter: OutboundEvent
    ) -> tuple[OutboundEvent, Callable[[Any], object] | None]:
        """Begin an attempt's span. Return the letter with it as its trace context, and a callback
        that ends it with the attempt's flight, unless it is not sampled. `url` is what spans show.

        The parent is the request's span, which gets the event's attributes. A retry of the queue
        has no request: its parent is the span that the letter came with.
        """
        request, parent = trace.get_current_span(), None
        if request.get_span_context().is_valid:
            request.set_attributes(_of_message(letter))
        else:
            carrier = {"traceparent": letter.traceparent, "tracestate": letter.tracestate}
            parent = _W3C.extract(carrier)
        span = self._tracer.start_span(f"send {target}", parent, trace.SpanKind.CLIENT)
        letter = letter.replace(traceparent=_context(span)["traceparent"])
        if not span.is_recording():
            return letter, None
        span.set_attributes(_of_attempt(target, url, letter))
        return letter, partial(_end, span)

    def close(self, timeout: float) -> None:
        """Export the remaining spans within `timeout` seconds; the rest is lost."""
        # In a thread, because OpenTelemetry waits half a minute for a collector that hangs.
        ending = Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(timeout)


def _context(span: trace.Span) -> dict[str, str]:
    """Return the headers of a trace context whose parent is this span."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier


def _end(span: trace.Span, flight: Any) -> None:
    if flight.error is not None:
        _fail(span, "cancelled" if isinstance(flight.error, CancelledError) else "fault", "")
        span.end()
        return
    attempt: Attempt = flight.result()
    span.set_attribute("ebaas_router.reason", attempt.reason)
    if attempt.status is not None:
        span.set_attribute("http.response.status_code", attempt.status)
    if attempt.code:
        span.set_attribute("ebaas_router.code", attempt.code)
    if not attempt.acknowledged:
        _fail(span, attempt.reason, attempt.detail)
    span.end(int(attempt.at * 1e9))


def _fail(span: trace.Span, why: str, detail: str) -> None:
    span.set_attribute("error.type", why)
    span.set_status(trace.StatusCode.ERROR, detail or why)


def _of_attempt(target: str, url: str, letter: OutboundEvent) -> dict[str, Any]:
    to = urlsplit(url)
    return {
        "http.request.method": "POST",
        "url.full": url or MASK,
        "server.address": to.hostname or "",
        "server.port": to.port or {"http": 80, "https": 443}.get(to.scheme, 0),
        **_of_message(letter),
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": target,
    }


def _of_message(letter: OutboundEvent) -> dict[str, Any]:
    return {
        "messaging.system": "ebaas",
        "messaging.message.id": letter.event_id,
        "messaging.message.body.size": len(letter.event.body),
        # Many spans wait if the collector hangs.
        "ebaas_router.event_key": letter.event.event_key[:256],
    }
