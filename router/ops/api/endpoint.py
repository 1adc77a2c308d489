"""One endpoint of the console's API as a declaration: it is served and described by that alone."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from router.config.holders import Deed, Holder
from router.contract.schema import Schema
from router.contract.strictjson import Unreadable, parse_json
from router.ops.api.parts import ApiParts
from router.ops.api.rejected import Rejected
from router.ops.api.schema import JsonSchema, schema_of
from router.ops.api.view import View

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
    needs: Deed | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be made, read and checked."""

    parts: ApiParts
    holder: Holder
    #: What its path names.
    path: Mapping[str, str]
    #: Its query: a tuple of values where there may be many, else one, or None.
    query: Mapping[str, Any]
    #: Its body; None where there is none.
    body: Any = None

    async def view(self) -> View:
        """What there is for who asks."""
        return await self.parts.view(self.holder)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What can be asked, and what is answered. Its description is the answer's docstring."""

    method: Literal["GET", "POST"]
    #: Below the API's prefix.
    path: str
    answer: Callable[[Asked], Awaitable[Any]]
    returns: Any
    #: Any of these has to be allowed.
    may: Sequence[Deed] = ("read",)
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
            body = parse_json(content)
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
    return Schema(schema_of(kind), kind.__name__, is_ours=True)


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
