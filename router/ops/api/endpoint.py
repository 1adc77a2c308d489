"""An endpoint: its parameters, its answer, and their JSON Schemas."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import islice
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
from router.contract.schema import Schema, SchemaFault
from router.contract.strictjson import REQUEST, Unreadable, parse_json
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
    #: Parses a text; raises ValueError or GlobInvalid with a text for people.
    read: Callable[[str], Any]


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
        parsed = [self._parse(value) if isinstance(value, str) else value for value in values]
        return tuple(parsed) if self.many else next(iter(parsed), None)

    def _parse(self, text: str) -> Any:
        try:
            return self.kind.read(text)
        except (ValueError, GlobInvalid) as error:
            raise Rejected(f"invalid_{self.kind.name}", name=self.name, why=str(error)) from None


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

    def view(self) -> View:
        """Return what the holder may see."""
        return self.parts.view(self.holder)

    def require_no_team(self) -> None:
        """Raise Rejected if the token is a team's: the answer would be about everybody's events."""
        if self.holder.owner:
            raise Rejected("not_for_teams")


@dataclass(frozen=True)
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
    #: The statuses of its problems besides those of every endpoint.
    problems: Sequence[int] = ()
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
                    **({"maxItems": _MOST_MEMBERS} if member.many else {}),
                    "description": member.about,
                }
                for member in members
            },
            "required": [member.name for member in members if member.is_required],
            "additionalProperties": False,
        }

    @cached_property
    def _validator(self) -> Schema:
        return Schema(self.body_schema, self.path)

    def read_query(self, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Parse a query. Raises Rejected."""
        texts: dict[str, list[str]] = {param.name: [] for param in self.params}
        for name, text in pairs:
            if name not in texts:
                known = ", ".join(texts) or "none"
                raise Rejected("unknown_parameter", name=repr(name[:64]), known=known)
            texts[name].append(text)
        for param in self.params:
            if len(texts[param.name]) > 1 and not param.many:
                raise Rejected("given_twice", name=param.name)
        return {param.name: param.parse(texts[param.name]) for param in self.params}

    def read_body(self, content: bytes) -> dict[str, Any]:
        """Parse and validate a body. Raises Rejected."""
        try:
            body = parse_json(content, REQUEST)
        except Unreadable as error:
            raise Rejected("unreadable_body", why=str(error)) from None
        faults = islice(self._validator.faults(body), _MAX_FAULTS)
        if why := "; ".join(map(_sentence, faults)):
            raise Rejected("invalid_body", why=why)
        return {
            member.name: member.parse(
                body.get(member.name, []) if member.many else [body.get(member.name)]
            )
            for member in self.takes or ()
        }


def _sentence(fault: SchemaFault) -> str:
    what = ".".join(map(str, fault.path)) or "the body"
    why = _WHY.get(fault.kind) or _WHY.get(fault.keyword, fault.keyword)
    return f"{what} {why}" + (f": expected {' or '.join(fault.expected)}" if fault.expected else "")


def endpoint(
    method: Literal["GET", "POST"], path: str, **options: Any
) -> Callable[[Callable[[ApiCall], Coroutine[Any, Any, Any]]], Endpoint]:
    """Make an endpoint of the function that answers it. The options are Endpoint's."""
    return lambda answer: Endpoint(method, path, answer, **options)


#: The most faults of a body that a problem names, and the most members of a list in a body.
_MAX_FAULTS, _MOST_MEMBERS = 5, 64

_WHY = {
    "absent": "is missing",
    "type": "has the wrong type",
    "value": "is not an allowed value",
    "unknown": "is not known",
    "maxLength": "is too long",
    "minLength": "is empty",
    "maxItems": "has too many items",
}

#: The longest text of a parameter, in characters.
LONGEST_TEXT = 1024


def read_text(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"is longer than {LONGEST_TEXT} characters")
    if not text.isprintable():
        raise ValueError("contains an invisible character")
    return text


def _reader(read: Callable[[str], Any], why: str) -> Callable[[str], Any]:
    """Give a parser an error of our own."""

    def reader(text: str) -> Any:
        try:
            return read(text)
        except (KeyError, ValueError):
            raise ValueError(why) from None

    return reader


def word(known: Iterable[str]) -> Kind:
    """One of a few words."""
    words = {each: each for each in map(str, known)}
    why = f"is none of {', '.join(words)}"
    return Kind("word", {"enum": [*words]}, _reader(words.__getitem__, why))


def number(most: int) -> Kind:
    schema = {"type": "integer", "minimum": 1, "maximum": most}
    numbers = {str(each): each for each in range(1, most + 1)}
    why = f"is not a whole number from 1 to {most}"
    return Kind("number", schema, _reader(numbers.__getitem__, why))


TEXT = Kind("text", {"type": "string", "minLength": 1}, read_text)

#: A text that the endpoint checks.
ANY_TEXT = Kind("text", {"type": "string"}, str)

FLAG = Kind(
    "flag",
    {"type": "boolean"},
    _reader({"true": True, "false": False}.__getitem__, "is neither true nor false"),
)

#: A member that is true if it is there.
MARK = Kind("flag", {"enum": [True]}, str)

#: A duration, in seconds.
SPAN = Kind(
    "span",
    {"type": "string", "examples": ["90s", "3h"]},
    _reader(parse_duration, "is not a time span like 90s, 3h"),
)

#: A point in time, as Unix time: a time ago, or ISO 8601 (in UTC if it has no zone).
MOMENT = Kind(
    "moment",
    {"type": "string", "examples": ["3h", "2026-11-26T13:00:00Z"]},
    _reader(
        lambda text: parse_time(text, time.time()),
        "is neither a time ago like 3h nor one like 2026-11-26T13:00:00Z",
    ),
)

#: A pattern of keys.
PATTERN = Kind("pattern", {"type": "string", "minLength": 1}, lambda text: Glob(read_text(text)))
