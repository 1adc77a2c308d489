"""The parameters of queries: what each kind has, how it is read, and how it is described."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace

from router.config.holders import Deed
from router.contract.schedule import parse_duration, parse_time
from router.ops.api.endpoint import Param
from router.routing.glob import Glob, GlobInvalid

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


def flag(name: str, about: str, *, needs: Deed | None = None) -> Param:
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
