"""OpenTelemetry's variables enable traces."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from router.telemetry.tracing import tracing_by
from tests.support.command import script

URL = "http://127.0.0.1:9"
ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}


@pytest.mark.parametrize(
    ("environ", "is_on", "problem"),
    [
        ({}, False, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, ""),
        ({**ASKED, "OTEL_TRACES_EXPORTER": "none"}, False, ""),
        ({**ASKED, "OTEL_SDK_DISABLED": "True"}, False, ""),
        (ASKED, True, ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, True, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, ""),
        ({**ASKED, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
          "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, True, ""),
        ({**ASKED, "OTEL_TRACES_EXPORTER": "zipkin"}, False,
         "OTEL_TRACES_EXPORTER: no traces, the exporter must be otlp or none"),
        ({**ASKED, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False,
         "OTEL_EXPORTER_OTLP_PROTOCOL: no traces, the protocol must be http/protobuf"),
    ],
)  # fmt: skip
def test_variables_enable_traces(environ: dict[str, str], is_on: bool, problem: str) -> None:
    """An endpoint or the exporter is enough; the problem names a variable that is not supported."""
    tracing = tracing_by(environ)
    assert (tracing.spans is not None, tracing.problem) == (is_on, problem)
    if tracing.spans is not None:
        tracing.spans.close(0)


def test_values_that_opentelemetry_refuses() -> None:
    """The problem is in OpenTelemetry's words, and there are no traces."""
    code = (
        "import os; from router.telemetry.tracing import tracing_by; print(tracing_by(os.environ))"
    )
    output = printed(code, {**ASKED, "OTEL_PROPAGATORS": "sparrow"})
    assert "spans=None" in output
    assert "no traces, OpenTelemetry rejects a variable: " in output


def test_opentelemetry_is_not_installed() -> None:
    """The problem says what to install."""
    code = """
        import os, sys
        sys.modules['opentelemetry'] = None  # its import fails
        from router.telemetry.tracing import tracing_by
        print(tracing_by(os.environ).problem)
        """
    assert printed(code, ASKED) == (
        "OTEL_EXPORTER_OTLP_ENDPOINT: no traces, OpenTelemetry is not installed: "
        "pip install 'ebaas-router[otel]'\n"
    )


def test_nothing_is_imported_without_traces() -> None:
    """A start does not import any module of OpenTelemetry."""
    code = """
        import io, json, sys
        from router.app import App
        from router.config.loading import parse
        from router.config.settings import Settings
        from router.telemetry.log import Log
        from router.telemetry.tracing import tracing_by
        from tests.support.house import routes
        table = json.dumps(routes({"a": "http://127.0.0.1:9/"})).encode()
        config = parse(table, "routes.yaml", {}, None)
        App(Settings(store=None), config, Log(io.StringIO()), tracing=tracing_by({}))
        print([name for name in sys.modules if name.startswith('opentelemetry')])
        """
    assert printed(code, ASKED) == "[]\n"


def printed(code: str, environ: Mapping[str, str]) -> str:
    done = script(code, environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()
