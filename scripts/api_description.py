"""schemas/api.json, the OpenAPI description of the ops port's API, made of its endpoints and their
types by `make docs`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

from router.ops.api.application import ENDPOINTS, PREFIX
from router.ops.api.endpoint import MOST_VALUES, TEXT, Endpoint, JsonSchema
from router.ops.problems import ProblemView
from router.ops.streams import Stream

_SERVER_SENT_EVENTS = Annotated[str, ("contentMediaType", "text/event-stream")]

_ABOUT = (
    "How a router does, what became of events, and what a person may do about it. Times are ISO "
    "8601 in UTC. A token that has an owner sees that owner's targets alone: all else is 404."
)

_PLAIN: dict[Any, JsonSchema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
}


def schema_of(kind: Any, named: dict[str, JsonSchema]) -> JsonSchema:
    """Return the schema of a type. A TypedDict is added to `named` and referred to by its name."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {**schema_of(parts[0], named), **dict(parts[1:])}
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, UnionType):
        return {"anyOf": [schema_of(part, named) for part in parts]}
    if origin is list:
        return {"type": "array", "items": schema_of(parts[0], named)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(parts[1], named)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if kind.__name__ not in named:
        named[kind.__name__] = {}  # it may refer to itself
        named[kind.__name__] = _object(kind, named)
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _object(kind: Any, named: dict[str, JsonSchema]) -> JsonSchema:
    """Return the schema of a TypedDict. It allows further members: a later version may add some."""
    members = get_type_hints(kind, include_extras=True)
    optional = {name for name, member in members.items() if get_origin(member) is NotRequired}
    schema: JsonSchema = {
        "type": "object",
        "properties": {
            name: schema_of(get_args(member)[0] if name in optional else member, named)
            for name, member in members.items()
        },
        "required": [name for name in members if name not in optional],
    }
    if kind.__doc__:
        schema["description"] = " ".join(kind.__doc__.split())
    return schema


def text() -> str:
    """Format it with a line for each path's method and each schema, so that a diff shows them."""
    return re.sub(r"\n {4,}", " ", json.dumps(document(), indent=1)) + "\n"


def document() -> JsonSchema:
    named: dict[str, JsonSchema] = {}
    paths: dict[str, JsonSchema] = {}
    for endpoint in ENDPOINTS:
        operations = paths.setdefault(PREFIX + endpoint.path, {})
        operations[endpoint.method.lower()] = _operation(endpoint, named)
    problems = schema_of(ProblemView, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "EBaaS callback router", "version": "1", "description": _ABOUT},
        "paths": paths,
        "security": [{"token": []}, {}],
        "components": {
            "schemas": dict(sorted(named.items())),
            "responses": {"problem": _response("A problem", "application/problem+json", problems)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, named: dict[str, JsonSchema]) -> JsonSchema:
    hints = get_type_hints(endpoint.answer, include_extras=True)
    returns, kind = hints["return"], "application/json"
    if get_origin(returns) is Callable:  # it makes the answer
        returns = get_args(returns)[1]
    if returns is Stream:
        returns, kind = _SERVER_SENT_EVENTS, "text/event-stream"
    operation: JsonSchema = {
        "operationId": "_".join([endpoint.method.lower(), *re.findall(r"\w+", endpoint.path)]),
        "summary": " ".join((endpoint.answer.__doc__ or "").split()),
        "description": f"Needs a token that may {' or '.join(endpoint.may)}.",
        "parameters": [
            {"name": name, "in": "path", "schema": TEXT.schema, "required": True}
            for name in endpoint.names
        ],
        "responses": {
            "200": _response("OK", kind, schema_of(returns, named)),
            "default": {"$ref": "#/components/responses/problem"},
        },
    }
    if endpoint.method == "POST":
        content = {"application/json": {"schema": _body(endpoint)}}
        operation["requestBody"] = {"required": True, "content": content}
    else:
        operation["parameters"] += [
            {"name": param.name, "in": "query", "schema": param.schema, "description": param.about}
            for param in endpoint.params
        ]
    return operation


def _body(endpoint: Endpoint) -> JsonSchema:
    return {
        "type": "object",
        "properties": {
            param.name: {
                **param.schema,
                **({"maxItems": MOST_VALUES} if param.many else {}),
                "description": param.about,
            }
            for param in endpoint.params
        },
        "required": [param.name for param in endpoint.params if param.is_required],
        "additionalProperties": False,
    }


def _response(about: str, kind: str, schema: JsonSchema) -> JsonSchema:
    return {"description": about, "content": {kind: {"schema": schema}}}
