"""An endpoint: its parameters, its answer, and their JSON Schemas."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from router.config.holders import Permission, TokenHolder
from router.contract.schedule import parse_duration, parse_time
from router.contract.strictjson import REQUEST, Unreadable, parse_json
from router.model.event import FIELDS
from router.ops.problems import Rejected
from router.routing.index import Glob, GlobInvalid

if TYPE_CHECKING:
    from router.ops.api.parts import ApiParts
    from router.ops.api.view import View

JsonSchema = dict[str, Any]

#: A time in ISO 8601, in UTC. An annotation is one more keyword of the type's schema.
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


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of parameters."""

    #: For the code of a problem: `invalid_…`.
    name: str
    schema: JsonSchema
    #: Parses a JSON value; raises GlobInvalid, ValueError or TypeError.
    read: Callable[[Any], Any]
    #: The fault of any other value.
    why: str


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a query, or a member of a body."""

    name: str
    about: str
    kind: Kind
    #: True if there may be several.
    many: bool = False
    is_required: bool = False
    #: A further permission if it is given and not false.
    needs: Permission | None = None

    @property
    def schema(self) -> JsonSchema:
        return {"type": "array", "items": self.kind.schema} if self.many else self.kind.schema

    def parse(self, values: Sequence[Any]) -> Any:
        """Return all of the values if there may be several, else the only one or None. Raises
        Rejected."""
        if len(values) > 1 and not self.many:
            raise Rejected("given_twice", name=self.name)
        if not values and self.is_required:
            raise Rejected("missing", name=self.name)
        try:
            parsed = tuple(map(self.kind.read, values))
        except GlobInvalid as error:
            raise Rejected("invalid_pattern", name=self.name, why=str(error)) from None
        except (TypeError, ValueError):
            why = self.kind.why
            raise Rejected(f"invalid_{self.kind.name}", name=self.name, why=why) from None
        return parsed if self.many else next(iter(parsed), None)


#: The most values of one member of a body.
_MOST_VALUES = 64


def _parse(params: Sequence[Param], values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the value of each parameter. Raises Rejected."""
    names = [param.name for param in params]
    for name in values:
        if name not in names:
            known = ", ".join(names) or "none"
            raise Rejected("unknown_parameter", name=repr(name[:64]), known=known)
    return {param.name: param.parse(values.get(param.name, ())) for param in params}


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request that is allowed, parsed and validated."""

    parts: ApiParts
    holder: TokenHolder
    #: The names in its path.
    path: Mapping[str, str]
    #: All parameters of its query: a tuple if there may be several, else a value or None.
    query: Mapping[str, Any]
    #: All members of its body, likewise.
    body: Mapping[str, Any]
    view: View

    def require_no_team(self) -> None:
        """Raise Rejected if the token is a team's: the answer would be about everybody's events."""
        if self.holder.owner:
            raise Rejected("not_for_teams")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method of the API, described by the docstring of its answer."""

    method: Literal["GET", "POST"]
    #: Below the API's prefix.
    path: str
    answer: Callable[[ApiCall], Coroutine[Any, Any, Any]]
    #: Any of these permissions is enough.
    may: Sequence[Permission] = ("read",)
    params: Sequence[Param] = ()
    #: The members of its body; None if it takes no body.
    takes: Sequence[Param] | None = None
    #: The type of the reply if it is not the type that `answer` returns.
    replies: Any = None

    @property
    def returns(self) -> Any:
        return self.replies or get_type_hints(self.answer, include_extras=True)["return"]

    @property
    def names(self) -> list[str]:
        """The names in its path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def body_schema(self) -> JsonSchema:
        members = self.takes or ()
        return {
            "type": "object",
            "properties": {
                member.name: {
                    **member.schema,
                    **({"maxItems": _MOST_VALUES} if member.many else {}),
                    "description": member.about,
                }
                for member in members
            },
            "required": [member.name for member in members if member.is_required],
            "additionalProperties": False,
        }

    def read_query(self, query: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Parse a query. Raises Rejected."""
        types = {param.name: param.kind.schema.get("type") for param in self.params}
        values: dict[str, list[Any]] = {}
        for name, text in query:
            value: Any = text
            if types.get(name) in ("boolean", "integer"):
                with suppress(ValueError):
                    value = json.loads(text)
            values.setdefault(name, []).append(value)
        return _parse(self.params, values)

    def read_body(self, content: bytes) -> dict[str, Any]:
        """Parse a body. Raises Rejected."""
        try:
            body = parse_json(content, REQUEST)
        except Unreadable as error:
            raise Rejected("unreadable_body", why=str(error)) from None
        if not isinstance(body, dict):
            raise Rejected("unreadable_body", why="it is not an object")
        takes = self.takes or ()
        lists = {member.name for member in takes if member.many}
        for name in lists & body.keys():
            if not isinstance(body[name], list) or len(body[name]) > _MOST_VALUES:
                raise Rejected("invalid_list", name=name, most=_MOST_VALUES)
        return _parse(takes, {n: value if n in lists else [value] for n, value in body.items()})


def endpoint(
    method: Literal["GET", "POST"], path: str, **options: Any
) -> Callable[[Callable[[ApiCall], Coroutine[Any, Any, Any]]], Endpoint]:
    """Make an endpoint of the function that answers it. The options are Endpoint's."""
    return lambda answer: Endpoint(method, path, answer, **options)


#: The longest text of a parameter, in characters.
LONGEST_TEXT = 1024


def read_text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
        raise ValueError
    return value


def _one_of(kind: type, values: Container[Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind or value not in values:
            raise ValueError
        return value

    return read


def _read_event(value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError
    if any(len(text) > LONGEST_TEXT for n in FIELDS if isinstance(text := value.get(n), str)):
        raise ValueError
    return value


def word(known: Iterable[str]) -> Kind:
    """One of a few words."""
    words = [*map(str, known)]
    return Kind("word", {"enum": words}, _one_of(str, words), f"is none of {', '.join(words)}")


def number(most: int) -> Kind:
    schema = {"type": "integer", "minimum": 1, "maximum": most}
    why = f"is not a whole number from 1 to {most}"
    return Kind("number", schema, _one_of(int, range(1, most + 1)), why)


_NO_TEXT = f"is not a text of 1 to {LONGEST_TEXT} visible characters"

TEXT = Kind("text", {"type": "string", "minLength": 1}, read_text, _NO_TEXT)

FLAG = Kind("flag", {"type": "boolean"}, _one_of(bool, (True, False)), "is neither true nor false")

#: An event with short texts: each route that it matches repeats them.
EVENT = Kind(
    "event",
    {"type": "object", "properties": {name: {"maxLength": LONGEST_TEXT} for name in FIELDS}},
    _read_event,
    f"is not an object, or has a text of more than {LONGEST_TEXT} characters",
)

#: A duration, in seconds.
SPAN = Kind(
    "span",
    {"type": "string", "examples": ["90s", "3h"]},
    parse_duration,
    "is not a time span like 90s, 3h",
)

#: A point in time, as Unix time: a time ago, or ISO 8601 (in UTC if it has no zone).
MOMENT = Kind(
    "moment",
    {"type": "string", "examples": ["3h", "2026-11-26T13:00:00Z"]},
    lambda text: parse_time(text, time.time()),
    "is neither a time ago like 3h nor one like 2026-11-26T13:00:00Z",
)

#: A pattern of keys.
PATTERN = Kind("text", TEXT.schema, lambda value: Glob(read_text(value)), _NO_TEXT)
