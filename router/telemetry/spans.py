"""OpenTelemetry: the only module that imports it, and only where traces are asked for.

A span is lost sooner than an event waits: spans are put into a queue that is bounded, and a thread
of OpenTelemetry's exports them. Nothing that may be a secret is put into one: no header, no body,
and addresses as they may be printed.
"""

from __future__ import annotations

import os
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from threading import Thread
from typing import Any, Protocol
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router import __version__
from router.model.event import Attempt, OutboundEvent
from router.model.secret import MASK

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


class Over(Protocol):
    """An attempt that has ended."""

    error: BaseException | None

    def result(self) -> Attempt: ...


Ending = Callable[[Over], object]

#: What the middleware calls a request's parts by: the stable names, where nobody chose otherwise.
_STABLE_NAMES = ("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

_W3C = TraceContextTextMapPropagator()
_CONTEXT = (b"traceparent", b"tracestate")

#: Where a scope that is shown has the one that came.
_WHOLE = "ebaas_router.whole"

#: The longest key that a span repeats, in characters: many spans wait for a collector that hangs.
_MAX_KEY = 256


class Ids(RandomIdGenerator):
    """Ids as OpenTelemetry makes them, but for a trace whose id is known before its first span."""

    #: That id, for the very next trace; 0 is none.
    next_trace = 0

    def generate_trace_id(self) -> int:
        known, self.next_trace = self.next_trace, 0
        return known or super().generate_trace_id()


class Spans:
    """Makes the spans of callbacks and of attempts."""

    def __init__(self, processor: SpanProcessor, sampler: Sampler | None = None) -> None:
        """What spans say of the service, and by default which are sampled, OpenTelemetry's
        variables say. `processor` gets those that are."""
        self._ids = Ids()
        own = {"service.name": "ebaas-router", "service.version": __version__}
        given = OTELResourceDetector().detect().attributes
        self._provider = TracerProvider(
            sampler,
            Resource.create({**own, **given}),
            shutdown_on_exit=False,  # a stop has a time of its own for the last ones: see `close`
            id_generator=self._ids,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("ebaas-router", __version__)

    @classmethod
    def exported(cls) -> Spans:
        """As those variables say. Raises ValueError for one that can't be used."""
        return cls(BatchSpanProcessor(OTLPSpanExporter()))

    def around(self, callbacks: Asgi, path: str) -> Asgi:
        """The application, with a span for each of its requests, from the head to the reply's end.

        What it passes on has that span as its trace context. `path` is what may be shown of it.
        """
        os.environ.setdefault(*_STABLE_NAMES)
        return _Around(callbacks, path, self._provider, self._ids)

    def attempt(
        self, target: str, url: str, letter: OutboundEvent
    ) -> tuple[OutboundEvent, Ending | None]:
        """Begin an attempt's span: the letter with that as its trace context, and who is to hear of
        the end, if anybody is. `url` is what may be shown of the target's.

        Its parent is the request in hand, which is told what it is about. The queue has none:
        there the parent is what the letter came with. It may be long over, so it is linked as well.
        """
        if _is_left_out(letter.traceparent):
            # No sampler takes an attempt of what it has left out: an id is all that it needs.
            own = self._ids.generate_span_id()
            traceparent = f"{letter.traceparent[:36]}{own:016x}{letter.traceparent[52:]}"
            return letter.replace(traceparent=traceparent), None
        request, parent, links = trace.get_current_span(), None, []
        if request.get_span_context().is_valid:
            request.set_attributes(_of_message(letter))
        else:
            came = {"traceparent": letter.traceparent, "tracestate": letter.tracestate}
            parent = _W3C.extract(came)
            links = [trace.Link(trace.get_current_span(parent).get_span_context())]
        name, kind = f"send {target}", trace.SpanKind.CLIENT
        span = self._tracer.start_span(name, parent, kind, links=links)
        span.set_attributes(_of_attempt(target, url, letter))
        letter = letter.replace(traceparent=_traceparent(span.get_span_context()))
        return letter, partial(_end, span) if span.is_recording() else None

    def close(self, timeout: float) -> None:
        """Export what there is, within `timeout` seconds; the rest is lost."""
        # By itself OpenTelemetry would wait half a minute for a collector that hangs.
        ending = Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(timeout)


class _Around:
    """OpenTelemetry's own middleware around the callbacks."""

    def __init__(self, callbacks: Asgi, path: str, provider: TracerProvider, ids: Ids) -> None:
        self._callbacks = callbacks
        self._path = path
        self._sampler = provider.sampler
        self._ids = ids
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

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """The middleware takes as long as the targets' three requests together: what is not sampled
        goes past it."""
        fields = [
            (name, value)
            for name, value in scope["headers"]
            if name in self._names and value.isascii()  # at other texts it would raise
        ]
        left_out = None
        if trace.get_current_span() is trace.INVALID_SPAN:
            left_out = self._left_out({name.decode(): value.decode() for name, value in fields})
        if left_out is not None:
            await self._pass_on(left_out, scope, receive, send)
            return
        shown = {"path": self._path, "query_string": b"", "headers": fields, _WHOLE: scope}
        await self._traced({**scope, **shown}, receive, send)

    def _left_out(self, carrier: dict[str, str]) -> trace.SpanContext | None:
        """The context of a request that is not sampled; None for one that is."""
        parent = get_global_textmap().extract(carrier)
        caller = trace.get_current_span(parent).get_span_context()
        ids = self._ids
        trace_id = caller.trace_id if caller.is_valid else ids.generate_trace_id()
        result = self._sampler.should_sample(parent, trace_id, "", trace.SpanKind.SERVER)
        if result.decision is not Decision.DROP:
            # It is asked once more, about the same trace: before anything else can begin one.
            ids.next_trace = 0 if caller.is_valid else trace_id
            return None
        span_id = ids.generate_span_id()
        return trace.SpanContext(trace_id, span_id, False, trace_state=result.trace_state)

    async def _inside(self, scope: Scope, receive: Any, send: Any) -> None:
        span = trace.get_current_span()
        span.set_attribute("http.route", self._path)
        await self._pass_on(span.get_span_context(), scope[_WHOLE], receive, send)

    def _pass_on(
        self, context: trace.SpanContext, scope: Scope, receive: Any, send: Any
    ) -> Awaitable[None]:
        """What came, with this trace context in place of the caller's."""
        fields = [field for field in scope["headers"] if field[0] not in _CONTEXT]
        own = (_traceparent(context), context.trace_state.to_header())
        fields += [(name, text.encode("ascii")) for name, text in zip(_CONTEXT, own, strict=True)]
        return self._callbacks({**scope, "headers": fields}, receive, send)


def _is_left_out(traceparent: str) -> bool:
    """Whether it says of itself that it is not sampled."""
    return bool(traceparent) and not int(traceparent[-2:], 16) & trace.TraceFlags.SAMPLED


def _traceparent(context: trace.SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _end(span: trace.Span, flight: Over) -> None:
    """An attempt is over: what came of it."""
    if flight.error is not None:
        _fail(span, "cancelled" if isinstance(flight.error, CancelledError) else "fault", "")
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


def _of_attempt(target: str, url: str, letter: OutboundEvent) -> dict[str, Any]:
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


def _of_message(letter: OutboundEvent) -> dict[str, Any]:
    """The event as the conventions for messaging have it."""
    return {
        "messaging.system": "ebaas",
        "messaging.message.id": letter.event_id,
        "messaging.message.body.size": len(letter.event.body),
        "ebaas_router.event_key": letter.event.event_key[:_MAX_KEY],
    }
