"""Whether what came from elsewhere has the shape that it is read by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints


class Misfit(Exception):
    """Names the first part that is missing or of another type."""

    def __init__(self, place: str, what: str, *, is_other: bool = False) -> None:
        super().__init__(f"{place.removeprefix('.') or 'the whole'} {what}")
        #: What is more is nearer to its shape; what has another tag is another's.
        self.nearness = (not is_other, place.count("."))


def mind_shape(value: object, kind: Any, place: str = "") -> None:
    """Raises Misfit. There may be more in it; of an enum any text is good. A kind may be a dict, of
    members by name."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if isinstance(kind, dict):
        _mind_members(_of(value, dict, place), kind, place)
    elif origin is Literal:
        if value not in parts:
            raise Misfit(place, f"is none of {', '.join(map(str, parts))}", is_other=True)
    elif origin in (Union, UnionType):
        _mind_any(value, parts, place)
    elif origin is list:
        for number, each in enumerate(_of(value, list, place)):
            mind_shape(each, parts[0], f"{place}[{number}]")
    elif origin is dict:
        for name, each in _of(value, dict, place).items():
            mind_shape(each, parts[1], f"{place}.{name}")
    elif issubclass(kind, dict):
        _mind_members(_of(value, dict, place), _members(kind), place)
    else:
        _of(value, _PLAIN.get(kind, kind), place)


#: A number may be whole.
_PLAIN = {float: (int, float)}

_WORDS = {str: "text", int: "a whole number", bool: "true or false", NoneType: "null"}


def _of(value: Any, kind: Any, place: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        kind = str
    is_flag = isinstance(value, bool) and kind is not bool
    if is_flag or not isinstance(value, kind):
        raise Misfit(place, f"is not {_WORDS.get(kind, 'of the right type')}")
    return value


def _mind_members(value: Mapping[str, Any], members: Mapping[str, Any], place: str) -> None:
    for name, each in members.items():
        is_optional = get_origin(each) is NotRequired
        if name in value:
            mind_shape(value[name], get_args(each)[0] if is_optional else each, f"{place}.{name}")
        elif not is_optional:
            raise Misfit(f"{place}.{name}", "is missing")


def _mind_any(value: object, kinds: tuple[Any, ...], place: str) -> None:
    """Where none fits it is told of the one that comes nearest."""
    misfits = []
    for kind in kinds:
        try:
            mind_shape(value, kind, place)
        except Misfit as misfit:
            misfits.append(misfit)
        else:
            return
    raise max(misfits, key=lambda misfit: misfit.nearness)


@cache
def _members(kind: Any) -> dict[str, Any]:
    """The tags first, which tell one shape from another."""
    members = get_type_hints(kind, include_extras=True)
    return dict(sorted(members.items(), key=lambda each: get_origin(each[1]) is not Literal))
