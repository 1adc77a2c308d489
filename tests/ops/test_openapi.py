"""The OpenAPI description of the API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from router.ops.api.application import ENDPOINTS, PREFIX, described
from router.ops.api.endpoint import schema_of
from router.store.protocol import State


class Small(TypedDict):
    """A small thing."""

    name: str
    more: NotRequired[list[int]]


def test_every_endpoint_is_described() -> None:
    """With its summary, its parameters and its problems; the document is valid."""
    document = described()
    OpenAPIV31SpecValidator(document).validate()
    paths = document["paths"]
    for endpoint in ENDPOINTS:
        operation = paths[PREFIX + endpoint.path][endpoint.method.lower()]
        assert operation["summary"], endpoint.path
        names = [each["name"] for each in operation["parameters"]]
        assert names == [*endpoint.names, *(param.name for param in endpoint.params)]
        assert operation["responses"].keys() == {"200", "default"}
        assert ("requestBody" in operation) == (endpoint.takes is not None)
    names = [each["operationId"] for path in paths.values() for each in path.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, {"type": "string"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (list[float], {"type": "array", "items": {"type": "number"}}),
        (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (State, {"enum": ["acknowledged", "awaiting", "queued", "superseded", "dead"]}),
        (Annotated[str, ("format", "date-time")], {"type": "string", "format": "date-time"}),
        (Small, {"$ref": "#/components/schemas/Small"}),
    ],
)
def test_the_schema_of_a_type(kind: Any, schema: Any) -> None:
    """A TypedDict is referred to by its name, and allows further members."""
    named: dict[str, Any] = {}
    assert schema_of(kind, named) == schema
    if kind is Small:
        assert named["Small"] == {
            "type": "object",
            "description": "A small thing.",
            "properties": {
                "name": {"type": "string"},
                "more": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["name"],
        }
