"""schemas/openapi.yaml: valid, and what real traffic looks like."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.command import ROOT
from tests.support.house import SAMPLE, event, house, routes
from tests.support.receivers import Kept, keeping, serving

pytestmark = pytest.mark.anyio

FILE = ROOT / "schemas/openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.load(FILE.read_text("utf-8"), yaml.CSafeLoader)

#: The headers that HTTP itself needs.
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


async def test_real_traffic_fits() -> None:
    """A receiver gets required headers, and only described ones; replies are described."""
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "a=b"}
    described = operation("paths", "/callback")["responses"]
    got: list[Kept] = []
    with serving(keeping(got)) as url:
        async with house(routes({"ledger": url}, match="a.gs.*")) as router:
            for status, body in ((200, SAMPLE), (400, b"{}"), (500, event(event_key="no.route"))):
                reply = await router.post(body, headers=trace)
                assert reply.status_code == status
                assert str(status) in described
                jsonschema.validate(reply.json(), schema("Reply"))
    ((_, head, _),) = got
    parameters = operation("webhooks", "event")["parameters"]
    assert {each["name"] for each in parameters if each.get("required")} <= head.keys()
    assert head.keys() <= {each["name"] for each in parameters} | PLAIN
    assert trace.keys() <= head.keys()
