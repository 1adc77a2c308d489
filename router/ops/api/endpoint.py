"""An endpoint: its path, its parameters and its answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from router.config.holders import Permission
from router.contract.schedule import parse_duration, parse_time
from router.contract.strictjson import REQUEST, Unreadable, parse_json
from router.model.event import FIELDS
from router.ops.api.view import ApiCall
from router.ops.problems import Rejected
from router.routing.index import Glob, GlobInvalid

JsonSchema = dict[str, Any]

#: A time in ISO 8601, in UTC. An annotation is one more keyword of the type's schema.
Time = Annotated[str, ("format", "date-time")]


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
        if len(values) > MOST_VALUES:
            raise Rejected("invalid_list", name=self.name, most=MOST_VALUES)
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


Answer = Callable[[ApiCall], Coroutine[Any, Any, Any]]

#: The most values of one parameter.
MOST_VALUES = 64


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method of the API, described by the docstring of its answer."""

    method: Literal["GET", "POST"]
    #: Below the API's prefix.
    path: str
    answer: Answer
    #: Any of these permissions is enough.
    may: Sequence[Permission] = ("read",)
    #: The parameters of a GET's query, or the members of a POST's body.
    params: Sequence[Param] = ()

    @property
    def names(self) -> list[str]:
        """The names in its path."""
        return re.findall(r"{(\w+)}", self.path)

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
        return self._parse(values)

    def read_body(self, content: bytes) -> dict[str, Any]:
        """Parse a body. Raises Rejected."""
        try:
            body = parse_json(content, REQUEST)
        except Unreadable as error:
            raise Rejected("unreadable_body", why=str(error)) from None
        if not isinstance(body, dict):
            raise Rejected("unreadable_body", why="it is not an object")
        lists = {param.name for param in self.params if param.many}
        for name in lists & body.keys():
            if not isinstance(body[name], list):
                raise Rejected("invalid_list", name=name, most=MOST_VALUES)
        return self._parse({n: value if n in lists else [value] for n, value in body.items()})

    def _parse(self, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        names = [param.name for param in self.params]
        for name in values:
            if name not in names:
                known = ", ".join(names) or "none"
                raise Rejected("unknown_parameter", name=repr(name[:64]), known=known)
        return {param.name: param.parse(values.get(param.name, ())) for param in self.params}


def endpoint(
    method: Literal["GET", "POST"], path: str, **options: Any
) -> Callable[[Answer], Endpoint]:
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


def _read_event(value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError
    if any(len(text) > LONGEST_TEXT for n in FIELDS if isinstance(text := value.get(n), str)):
        raise ValueError
    return value


#: An event with short texts: each route that it matches repeats them.
EVENT = Kind(
    "event",
    {"type": "object", "properties": {name: {"maxLength": LONGEST_TEXT} for name in FIELDS}},
    _read_event,
    f"is not an object, or has a text of more than {LONGEST_TEXT} characters",
)

#: A duration, in seconds.
_SPAN = {"type": "string", "examples": ["90s", "3h"]}
SPAN = Kind("span", _SPAN, parse_duration, "is not a time span like 90s, 3h")

#: A point in time, as Unix time: a time ago, or ISO 8601 (in UTC if it has no zone).
MOMENT = Kind(
    "moment",
    {"type": "string", "examples": ["3h", "2026-11-26T13:00:00Z"]},
    lambda text: parse_time(text, time.time()),
    "is neither a time ago like 3h nor one like 2026-11-26T13:00:00Z",
)

#: A pattern of keys.
PATTERN = Kind("text", TEXT.schema, lambda value: Glob(read_text(value)), _NO_TEXT)
