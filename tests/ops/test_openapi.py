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
