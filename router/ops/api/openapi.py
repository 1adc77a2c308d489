"""The API described: an OpenAPI document, made of the table of endpoints and their types. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from router import __version__
from router.ops.api.endpoint import Endpoint, Param
from router.ops.api.rejected import ProblemShape
from router.ops.api.schema import EventStream, JsonSchema, schema_of

#: What every endpoint may answer.
_ALWAYS = (400, 401, 403, 429, 503)

#: What those may besides that take a body.
_WITH_BODY = (413, 415)

_ABOUT = (
    "How a router does, what became of events, and what a person may do about it. Times are ISO "
    "8601 in UTC. A token that has an owner sees that owner's targets alone: all else is 404."
)


def described(endpoints: Iterable[Endpoint], prefix: str) -> dict[str, Any]:
    named: dict[str, JsonSchema] = {}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(f"{prefix}{endpoint.path}", {})
        operations[endpoint.method.lower()] = _operation(endpoint, named)
    problem = schema_of(ProblemShape, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "EBaaS callback router", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "security": [{"token": []}, {}],
        "components": {
            "schemas": dict(sorted(named.items())),
            "responses": {
                "problem": _response("What is wrong", "application/problem+json", problem)
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, named: dict[str, JsonSchema]) -> dict[str, Any]:
    about = " ".join((endpoint.answer.__doc__ or "").split())
    statuses = {*_ALWAYS, *endpoint.problems, *(_WITH_BODY if endpoint.takes else ())}
    operation: dict[str, Any] = {
        "operationId": _name(endpoint),
        "summary": about,
        "description": f"Needs a token that may {' or '.join(endpoint.may)}.",
        "parameters": [
            *map(_place, endpoint.names),
            *map(_parameter, endpoint.params),
        ],
        "responses": {
            "200": _answer(endpoint, named),
            **{
                str(status): {"$ref": "#/components/responses/problem"}
                for status in sorted(statuses)
            },
        },
    }
    if endpoint.takes:
        schema = schema_of(endpoint.takes)
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _name(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", endpoint.path)
    return "_".join([endpoint.method.lower(), *words])


def _place(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(param: Param) -> dict[str, Any]:
    schema = {"type": "array", "items": param.schema} if param.many else param.schema
    return {"name": param.name, "in": "query", "description": param.about, "schema": schema}


def _answer(endpoint: Endpoint, named: dict[str, JsonSchema]) -> dict[str, Any]:
    kind = "text/event-stream" if endpoint.returns is EventStream else "application/json"
    return _response(HTTPStatus.OK.phrase, kind, schema_of(endpoint.returns, named))


def _response(about: str, kind: str, schema: JsonSchema) -> dict[str, Any]:
    return {"description": about, "content": {kind: {"schema": schema}}}
