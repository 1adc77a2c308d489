"""Traces, if OpenTelemetry's own variables enable them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from router.telemetry.spans import Spans

#: Variables that enable traces, unless OTEL_TRACES_EXPORTER disables them.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

#: The supported protocol.
_PROTOCOL = "http/protobuf"


class Tracing(NamedTuple):
    """The spans, or the reason why there are none."""

    spans: Spans | None = None
    #: Why traces are enabled but impossible; `""` if they are not enabled.
    problem: str = ""


NO_TRACES = Tracing()


def tracing_by(environ: Mapping[str, str]) -> Tracing:
    """Enable traces as the variables say. OpenTelemetry is imported only if they do."""
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    exporter = given.get("OTEL_TRACES_EXPORTER", "")
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return NO_TRACES
    enabling = next((n for n in ("OTEL_TRACES_EXPORTER", *_ENDPOINTS) if n in given), None)
    if enabling is None:
        return NO_TRACES
    if exporter not in ("", "otlp"):
        return Tracing(problem="OTEL_TRACES_EXPORTER: no traces, the exporter must be otlp or none")
    variable = next((name for name in _PROTOCOLS if name in given), "")
    if given.get(variable, _PROTOCOL) != _PROTOCOL:
        return Tracing(problem=f"{variable}: no traces, the protocol must be {_PROTOCOL}")
    try:
        # Imported late: it is an extra, and takes a third of a second.
        from router.telemetry.spans import Spans

        return Tracing(Spans.exported())
    except ValueError as error:
        why = f"OpenTelemetry rejects a variable: {error}"
    except ImportError:
        why = "OpenTelemetry is not installed: pip install 'ebaas-router[otel]'"
    return Tracing(problem=f"{enabling}: no traces, {why}")
