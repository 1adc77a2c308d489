"""The description of the console's API: valid, whole, and what its types say."""

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


def test_it_is_valid() -> None:
    """By the validator of the specification's own working group."""
    OpenAPIV31SpecValidator(described(ENDPOINTS, PREFIX)).validate()


def test_every_endpoint_is_described() -> None:
    """With its summary, its parameters, and the problems that it may have."""
    paths = described(ENDPOINTS, PREFIX)["paths"]
    for endpoint in ENDPOINTS:
        operation = paths[PREFIX + endpoint.path][endpoint.method.lower()]
        assert operation["summary"], endpoint.path
        told = [each["name"] for each in operation["parameters"]]
        assert told == [*endpoint.names, *(param.name for param in endpoint.params)]
        assert {"200", "401", "403"} <= operation["responses"].keys()
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
        (
            Small,
            {
                "type": "object",
                "description": "A small thing.",
                "properties": {
                    "name": {"type": "string"},
                    "more": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["name"],
            },
        ),
    ],
)
def test_a_type_is_its_schema(kind: Any, schema: Any) -> None:
    """TypedDicts and what they are made of."""
    named: dict[str, Any] = {}
    found = schema_of(kind, named)
    assert named.get("Small", found) == schema
    assert not named or found == {"$ref": "#/components/schemas/Small"}
