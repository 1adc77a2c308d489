"""A type's JSON Schema: TypedDicts and what they are made of. Pure."""

from __future__ import annotations

from enum import Enum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

JsonSchema = dict[str, Any]

# What a type is annotated with is one more keyword of its schema.

#: A time, as ISO 8601 has it, in UTC.
Time = Annotated[str, ("format", "date-time")]

#: Server-sent events.
EventStream = Annotated[str, ("contentMediaType", "text/event-stream")]

_PLAIN: dict[Any, JsonSchema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
}

#: Where an OpenAPI document keeps schemas that have names.
_NAMED = "#/components/schemas/"


def schema_of(kind: Any, named: dict[str, JsonSchema] | None = None) -> JsonSchema:
    """With `named` a TypedDict is put there and referred to by its name; else it is written out."""
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
        return {"enum": [each.value for each in kind]}
    if named is None:
        return _object(kind, None)
    if kind.__name__ not in named:
        named[kind.__name__] = {}  # it may refer to itself
        named[kind.__name__] = _object(kind, named)
    return {"$ref": _NAMED + kind.__name__}


def _object(kind: Any, named: dict[str, JsonSchema] | None) -> JsonSchema:
    """Of a TypedDict. Nobody is promised that there is no more in an answer: clients go on working
    when it gets new members; a request has no others."""
    members = get_type_hints(kind, include_extras=True)
    optional = {name for name, each in members.items() if get_origin(each) is NotRequired}
    schema: JsonSchema = {
        "type": "object",
        "properties": {
            name: schema_of(get_args(each)[0] if name in optional else each, named)
            for name, each in members.items()
        },
        "required": [name for name in members if name not in optional],
    }
    if named is None:
        schema["additionalProperties"] = False
    if kind.__doc__:
        schema["description"] = " ".join(kind.__doc__.split())
    return schema
