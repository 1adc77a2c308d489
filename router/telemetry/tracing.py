"""Whether there are to be traces: OpenTelemetry's own variables say so, and nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from router.telemetry.spans import Spans

#: Any of these asks for traces, unless OTEL_TRACES_EXPORTER says more.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

#: The one way to a collector that there is.
_OTLP, _PROTOCOL = "otlp", "http/protobuf"


class Tracing(NamedTuple):
    """What became of the wish for traces."""

    #: None where there are none.
    spans: Spans | None = None
    #: Why there are none though they are asked for; `""` where they are not.
    problem: str = ""


NO_TRACES = Tracing()


def tracing_by(environ: Mapping[str, str]) -> Tracing:
    """What these variables ask for. Nothing of OpenTelemetry is imported where they don't."""
    asking = _asking(environ)
    if not asking:
        return NO_TRACES
    exporter = _said(environ, "OTEL_TRACES_EXPORTER") or _OTLP
    if exporter != _OTLP:
        return Tracing(problem="OTEL_TRACES_EXPORTER: no traces, for it is none of otlp, none")
    for name in _PROTOCOLS:
        protocol = _said(environ, name)
        if protocol == _PROTOCOL:
            break
        if protocol:
            return Tracing(problem=f"{name}: no traces, for they are sent by {_PROTOCOL} alone")
    try:
        # An extra, and a third of a second, for those alone who want it.
        from router.telemetry.spans import Spans

        return Tracing(Spans.exported())
    except ImportError:
        why = "OpenTelemetry is not installed: pip install 'ebaas-router[otel]'"
    except ValueError as error:
        why = f"OpenTelemetry can't use a variable of its own: {error}"
    return Tracing(problem=f"{asking}: no traces, for {why}")


def _asking(environ: Mapping[str, str]) -> str:
    """The variable that asks for traces; `""` where none does."""
    exporter = _said(environ, "OTEL_TRACES_EXPORTER")
    if _said(environ, "OTEL_SDK_DISABLED").lower() == "true" or exporter == "none":
        return ""
    if exporter:
        return "OTEL_TRACES_EXPORTER"
    return next((name for name in _ENDPOINTS if _said(environ, name)), "")


def _said(environ: Mapping[str, str], name: str) -> str:
    """To OpenTelemetry an empty variable is none."""
    return environ.get(name, "").strip()
