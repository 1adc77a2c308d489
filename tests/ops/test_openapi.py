"""The OpenAPI description of the API."""

from __future__ import annotations

from openapi_spec_validator import OpenAPIV31SpecValidator

from router.ops.api.application import ENDPOINTS, PREFIX
from scripts.api_description import document


def test_every_endpoint_is_described() -> None:
    """With its summary, its parameters and its body; the document is valid."""
    described = document()
    OpenAPIV31SpecValidator(described).validate()
    paths = described["paths"]
    for endpoint in ENDPOINTS:
        operation = paths[PREFIX + endpoint.path][endpoint.method.lower()]
        assert operation["summary"], endpoint.path
        names = [each["name"] for each in operation["parameters"]]
        query = [param.name for param in endpoint.params if endpoint.method == "GET"]
        assert names == [*endpoint.names, *query]
        assert operation["responses"].keys() == {"200", "default"}
        assert ("requestBody" in operation) == (endpoint.method == "POST")
    names = [each["operationId"] for path in paths.values() for each in path.values()]
    assert len(names) == len(set(names))


def test_an_answer_is_described_member_by_member() -> None:
    """By its types: texts, numbers, lists, words, other objects, times, and what may be null."""
    schemas = document()["components"]["schemas"]
    target = schemas["TargetView"]["properties"]
    assert target["name"] == {"type": "string"}
    assert target["required_by"] == {"type": "array", "items": {"type": "string"}}
    assert target["unsettled"]["additionalProperties"] == {"type": "integer"}
    assert "failing" in target["state"]["enum"]
    assert target["hour"] == {"$ref": "#/components/schemas/HourSums"}
    time = {"type": "string", "format": "date-time"}
    assert target["expires_at"] == {"anyOf": [time, {"type": "null"}]}
    assert schemas["PausedView"]["required"] == ["by"]
