"""schemas/openapi.yaml: valid, and what real traffic looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.command import ROOT
from tests.support.house import SAMPLE, event
from tests.support.serving import serving
from tests.support.sockets import serving_in_a_thread

FILE = ROOT / "schemas/openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.load(FILE.read_text("utf-8"), yaml.CSafeLoader)

#: What HTTP itself needs.
PLAIN = {"host", "content-length", "content-type", "accept"}


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def operation(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT[kind][name]["post"]
    return found


def test_the_document_is_openapi() -> None:
    """The document is valid by the schema of OpenAPI 3.1, with its references and examples."""
    # Large, and imported where it is used: each process of a test run imports this file.
    from openapi_spec_validator import OpenAPIV31SpecValidator

    OpenAPIV31SpecValidator(DOCUMENT).validate()
    for kind, name in (("paths", "/callback"), ("webhooks", "event")):
        (content,) = operation(kind, name)["requestBody"]["content"].values()
        jsonschema.validate(content["example"], schema("Callback"))


class Receiver(ThreadingHTTPServer):
    """Keeps the headers of what comes, and acknowledges."""

    url: str
    heads: list[Message]

    class Answer(BaseHTTPRequestHandler):
        server: Receiver

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.server.heads.append(self.headers)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"code": "000"}')

        def log_message(self, *_: Any) -> None:
            """Log nothing."""


@pytest.fixture
def receiver() -> Any:
    with Receiver(("127.0.0.1", 0), Receiver.Answer) as server:
        server.url = f"http://127.0.0.1:{server.server_address[1]}/"
        server.heads = []
        with serving_in_a_thread(server):
            yield server


def replied(port: int, body: bytes, headers: Mapping[str, str]) -> tuple[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/callback", body, headers)
    answer = connection.getresponse()
    output = answer.status, json.loads(answer.read())
    connection.close()
    return str(output[0]), output[1]


def test_real_traffic_fits(receiver: Receiver, tmp_path: Path) -> None:
    """A receiver gets every header that is described as required, and only described ones; replies
    have a described status and form."""
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "a=b"}
    bodies = {"200": SAMPLE, "400": b"{}", "500": event(event_key="no.route.fits.it")}
    with serving(tmp_path, {"ledger": receiver}, match="a.gs.*") as router:  # type: ignore[dict-item]
        replies = {want: replied(router.port, body, trace) for want, body in bodies.items()}

    described = operation("paths", "/callback")["responses"]
    for want, (status, reply) in replies.items():
        assert status == want
        assert status in described
        jsonschema.validate(reply, schema("Reply"))
    (head,) = receiver.heads
    parameters = operation("webhooks", "event")["parameters"]
    names = {name.lower() for name in head}
    assert {each["name"] for each in parameters if each.get("required")} <= names
    assert names <= {each["name"] for each in parameters} | PLAIN
    assert trace.keys() <= names
