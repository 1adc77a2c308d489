"""An endpoint: its parameters, its answer, and how a request is rejected."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from http import HTTPStatus
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from router.config.holders import Permission, TokenHolder
from router.contract.schedule import parse_duration, parse_time
from router.contract.schema import Schema
from router.contract.strictjson import REQUEST, Unreadable, parse_json
from router.routing.index import Glob, GlobInvalid

if TYPE_CHECKING:
    from router.ops.api.parts import ApiParts
    from router.ops.api.view import View


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


class ProblemView(TypedDict):
    """An error: what kind it is, and what can be done about it."""

    type: str
    title: str
    status: int
    detail: str


class Rejected(Exception):
    """The text says what is wrong and, where that helps, what to do; it names no other's target."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.more = more

    @property
    def document(self) -> dict[str, Any]:
        shape = ProblemView(
            type="about:blank",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=str(self),
        )
        return {**shape, **self.more}


def nothing_there(what: str) -> Rejected:
    """Also of what is there, but not for who asks: the two look alike."""
    return Rejected(404, f"there is no {what}")


#: The most members that are told of what a body has wrong.
_MAX_FAULTS = 5


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a query."""

    name: str
    about: str
    schema: JsonSchema
    #: Its value; raises ValueError, whose text is for people.
    read: Callable[[str], Any] = str
    #: It may be given more than once.
    many: bool = False
    #: What has to be allowed as well where it is given, and not false.
    needs: Permission | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be made, read and checked."""

    parts: ApiParts
    holder: TokenHolder
    #: What its path names.
    path: Mapping[str, str]
    #: Its query: a tuple of values where there may be many, else one, or None.
    query: Mapping[str, Any]
    #: Its body; None where there is none.
    body: Any = None

    def view(self) -> View:
        """What there is for who asks."""
        return self.parts.view(self.holder)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What can be asked, and what is answered. Its description is the answer's docstring."""

    method: Literal["GET", "POST"]
    #: Below the API's prefix.
    path: str
    answer: Callable[[Asked], Awaitable[Any]]
    returns: Any
    #: Any of these has to be allowed.
    may: Sequence[Permission] = ("read",)
    params: Sequence[Param] = ()
    #: What its body is; None for none.
    takes: Any = None
    #: The statuses of the problems that it has besides everybody's.
    problems: Sequence[int] = ()

    @property
    def names(self) -> list[str]:
        """What its path names."""
        return re.findall(r"{(\w+)}", self.path)

    def read_query(self, given: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Raises Rejected for what it does not have or can't be read."""
        known = {param.name: param for param in self.params}
        found: dict[str, list[Any]] = {name: [] for name in known}
        for name, text in given:
            if name not in known:
                there = f"; there are {', '.join(known)}" if known else ""
                raise Rejected(400, f"no parameter is named {_shown(name)}{there}")
            try:
                found[name].append(known[name].read(text))
            except ValueError as error:
                raise Rejected(400, f"{name}: {error}") from None
            if len(found[name]) > 1 and not known[name].many:
                raise Rejected(400, f"{name}: is given twice")
        return {
            name: tuple(values) if known[name].many else next(iter(values), None)
            for name, values in found.items()
        }

    def read_body(self, content: bytes) -> Any:
        """Raises Rejected for one that is not what this endpoint takes."""
        try:
            body = parse_json(content, REQUEST)
        except Unreadable as error:
            raise Rejected(400, f"the body: {error}") from None
        faults = [
            f"{_place(fault.path)} {_WHY.get(fault.kind, fault.keyword)}"
            + (f": {' or '.join(fault.expected)} is meant" if fault.expected else "")
            for fault, _ in zip(
                _check_of(self.takes).faults(body), range(_MAX_FAULTS), strict=False
            )
        ]
        if faults:
            raise Rejected(400, "; ".join(faults))
        return body


@cache
def _check_of(kind: Any) -> Schema:
    return Schema(schema_of(kind), kind.__name__)


_WHY = {
    "absent": "is missing",
    "type": "is of another type",
    "value": "is none of the values that are allowed",
    "unknown": "is not known",
    "size": "is too long, too short or empty",
}


def _place(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path)) or "the body"


def _shown(text: str) -> str:
    return repr(text[:64])


#: The longest text of a parameter, in characters.
LONGEST_TEXT = 1024


def text(name: str, about: str) -> Param:
    return Param(name, about, {"type": "string", "minLength": 1}, read_text)


def texts(name: str, about: str) -> Param:
    return replace(text(name, about), many=True)


def read_text(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"is longer than {LONGEST_TEXT} characters")
    if not text.isprintable():
        raise ValueError("has a character in it that can't be seen")
    return text


def words(name: str, about: str, known: Sequence[str], *, many: bool = True) -> Param:
    """Some of a few words."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"is none of {', '.join(known)}")
        return text

    return Param(name, about, {"enum": list(known)}, read, many=many)


def flag(name: str, about: str, *, needs: Permission | None = None) -> Param:
    def read(text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("is neither true nor false")
        return text == "true"

    return Param(name, about, {"type": "boolean"}, read, needs=needs)


def number(name: str, about: str, most: int) -> Param:
    def read(text: str) -> int:
        if not re.fullmatch("[1-9][0-9]{0,8}", text) or int(text) > most:
            raise ValueError(f"is not a whole number from 1 to {most}")
        return int(text)

    return Param(name, about, {"type": "integer", "minimum": 1, "maximum": most}, read)


def span(name: str, about: str) -> Param:
    """A time span, in seconds."""
    return Param(name, about, {"type": "string", "examples": ["90s", "3h"]}, parse_span)


def moment(name: str, about: str) -> Param:
    """A point in time, as Unix time."""
    return Param(
        name, about, {"type": "string", "examples": ["3h", "2026-11-26T13:00:00Z"]}, parse_moment
    )


def keys(name: str, about: str) -> Param:
    """Patterns of keys."""
    return Param(name, about, {"type": "string", "minLength": 1}, read_glob, many=True)


def parse_span(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError("is not a time span like 90s, 3h") from None


def parse_moment(text: str) -> float:
    """`3h`, which is so long ago, or a time in ISO 8601, in UTC where it has no zone."""
    try:
        return parse_time(text, time.time())
    except ValueError:
        raise ValueError(
            "is neither a time ago like 3h nor one like 2026-11-26T13:00:00Z"
        ) from None


def read_glob(text: str) -> Glob:
    try:
        return Glob(read_text(text))
    except GlobInvalid as error:
        raise ValueError(str(error)) from None
