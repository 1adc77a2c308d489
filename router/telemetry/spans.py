"""OpenTelemetry: the only module that imports it, and only where traces are asked for.

A span is lost sooner than an event waits: spans are put into a queue that is bounded, and a thread
of OpenTelemetry's exports them. Nothing that may be a secret is put into one: no header, no body,
and addresses as they may be printed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router import __version__
from router.model import MASK, Attempt, Letter

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]
Ending = Callable[[asyncio.Future[Attempt]], object]

#: What the middleware calls a request's parts by: the stable names, where nobody chose otherwise.
_STABLE_NAMES = ("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

_W3C = TraceContextTextMapPropagator()
_CONTEXT = (b"traceparent", b"tracestate")

#: Where a scope that is shown has the one that came.
_WHOLE = "ebaas_router.whole"

#: The longest key that a span repeats, in characters: many spans wait for a collector that hangs.
_MAX_KEY = 256


class Spans:
    """Makes the spans of callbacks and of attempts."""

    def __init__(self, provider: TracerProvider) -> None:
        """Which of them are sampled, and where they go, is the provider's."""
        self._provider = provider
        self._tracer = provider.get_tracer("ebaas-router", __version__)

    @classmethod
    def exported(cls) -> Spans:
        """As OpenTelemetry's variables say: sampled, described, gathered, exported.

        Raises ValueError for a variable that can't be used.
        """
        own = {"service.name": "ebaas-router", "service.version": __version__}
        given = OTELResourceDetector().detect().attributes
        # A stop has a time of its own for the last ones: see `close`.
        resource = Resource.create({**own, **given})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def around(self, callbacks: Asgi, path: str) -> Asgi:
        """The application, with a span for each of its requests, from the head to the reply's end.

        What it passes on has that span as its trace context. `path` is what may be shown of it.
        """
        os.environ.setdefault(*_STABLE_NAMES)
        return _Around(callbacks, path, self._provider)

    def attempt(self, target: str, url: str, letter: Letter) -> tuple[Letter, Ending | None]:
        """Begin an attempt's span: the letter with that as its trace context, and who is to hear of
        the end, if anybody is. `url` is what may be shown of the target's.

        Its parent is the request in hand, which is told what it is about. The queue has none:
        there the parent is what the letter came with. It may be long over, so it is linked as well.
        """
        request = trace.get_current_span()
        context, parent, links = request.get_span_context(), None, []
        if not context.is_valid:
            parent = _W3C.extract(
                {"traceparent": letter.traceparent, "tracestate": letter.tracestate}
            )
            links = [trace.Link(trace.get_current_span(parent).get_span_context())]
        elif not context.trace_flags.sampled:
            # No sampler takes an attempt of what it has left out: an id is all that it needs.
            own = f"{self._provider.id_generator.generate_span_id():016x}"
            traceparent = f"{letter.traceparent[:36]}{own}{letter.traceparent[52:]}"
            return letter._replace(traceparent=traceparent), None
        else:
            request.set_attributes(_of_message(letter))
        name, kind = f"send {target}", trace.SpanKind.CLIENT
        span = self._tracer.start_span(name, parent, kind, links=links)
        span.set_attributes(_of_attempt(target, url, letter))
        traceparent, tracestate = _written(span)
        letter = letter._replace(traceparent=traceparent, tracestate=tracestate)
        return letter, partial(_end, span) if span.is_recording() else None

    def close(self, timeout: float) -> None:
        """Export what there is, within `timeout` seconds; the rest is lost."""
        # By itself OpenTelemetry would wait half a minute for a collector that hangs.
        ending = Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(timeout)


class _Around:
    """OpenTelemetry's own middleware around the callbacks."""

    def __init__(self, callbacks: Asgi, path: str, provider: TracerProvider) -> None:
        self._callbacks = callbacks
        self._path = path
        #: The headers that it has a use for. There is none for baggage: nobody reads it here.
        self._names = {name.encode() for name in get_global_textmap().fields} - {b"baggage"}
        self._names.add(b"user-agent")
        self._traced = OpenTelemetryMiddleware(
            self._inside,
            tracer_provider=provider,
            meter_provider=NoOpMeterProvider(),
            # A body comes in one piece, and so does a reply: spans of their own would say nothing.
            exclude_spans=["receive", "send"],
        )

    def __call__(self, scope: Scope, receive: Any, send: Any) -> Awaitable[None]:
        """Have it see no more than may be shown, and no text that it would raise at."""
        fields = [
            (name, value)
            for name, value in scope["headers"]
            if name in self._names and value.isascii()
        ]
        shown = {"path": self._path, "query_string": b"", "headers": fields, _WHOLE: scope}
        return self._traced({**scope, **shown}, receive, send)

    async def _inside(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass on what came, with the request's span as its trace context."""
        whole, span = scope[_WHOLE], trace.get_current_span()
        fields = [field for field in whole["headers"] if field[0] not in _CONTEXT]
        for name, value in zip(_CONTEXT, _written(span), strict=True):
            fields.append((name, value.encode("ascii")))
        if span.is_recording():
            span.set_attribute("http.route", self._path)
        await self._callbacks({**whole, "headers": fields}, receive, send)


def _written(span: trace.Span) -> tuple[str, str]:
    """A span as W3C's `traceparent` and `tracestate`."""
    of = span.get_span_context()
    traceparent = f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}"
    return traceparent, of.trace_state.to_header() if of.trace_state else ""


def _end(span: trace.Span, flight: asyncio.Future[Attempt]) -> None:
    """An attempt is over: what came of it."""
    if flight.cancelled() or flight.exception() is not None:
        _fail(span, "cancelled" if flight.cancelled() else "fault", "")
        span.end()
        return
    attempt = flight.result()
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


def _of_attempt(target: str, url: str, letter: Letter) -> dict[str, Any]:
    """By the conventions for HTTP and for messaging; what has no name there has ours."""
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


def _of_message(letter: Letter) -> dict[str, Any]:
    """The event as the conventions for messaging have it."""
    return {
        "messaging.system": "ebaas",
        "messaging.message.id": letter.event_id,
        "messaging.message.body.size": len(letter.event.body),
        "ebaas_router.event_key": letter.event.event_key[:_MAX_KEY],
    }
