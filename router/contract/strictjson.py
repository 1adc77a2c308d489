"""Strict JSON: a text that two parsers could read differently is refused.

First, a scan bounds the work: parsers hold the interpreter's lock, and a MiB of nested lists takes
them half a second.

Then the standard library's parser decides, made stricter: it also refuses NaN and Infinity, numbers
beyond a float, duplicate keys and lone surrogates. orjson takes less than half the time; its value
is used if orjson writes the same text from it.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple, NoReturn

import orjson


class Bounds(NamedTuple):
    """The most that a JSON text may contain. docs/explanation/security.md explains the numbers."""

    #: Lists and objects nested in each other.
    depth: int
    #: Lists and objects in all: each costs a parser as much as ten other values.
    lists: int
    #: Values of every kind, counted by commas and opening brackets.
    values: int


#: A callback: a full MiB of ids, or of objects with a UUID each. A parser takes 10 ms, or 45 ms
#: in steps for numbers in a rare notation.
CALLBACK: Final = Bounds(32, 25_000, 200_000)

#: A target's answer, which needs only `code` and `msg`. A parser takes 1 ms.
ANSWER: Final = Bounds(8, 1_000, 5_000)

#: A request to the API, which may contain a callback; and an operator's schema.
REQUEST: Final = Bounds(64, CALLBACK.lists + 100, CALLBACK.values + 100)

#: A router's answer to a command: lists of 100,000 targets, and more.
ROUTER: Final = Bounds(64, 5_000_000, 50_000_000)


class Unreadable(ValueError):
    """Not strict JSON. The text says why and where, and repeats nothing of the input."""


class TooMuch(Unreadable):
    """A text that exceeds one of its bounds."""

    def __init__(self, kind: Literal["depth", "lists", "values"], most: int) -> None:
        super().__init__(_TOO_MUCH[kind].format(most=most))
        self.kind = kind
        self.most = most


_TOO_MUCH: Final = {
    "depth": "nested more than {most} deep",
    "lists": "more than {most:,} lists and objects",
    "values": "more than {most:,} values",
}


def parse_json(text: bytes, bounds: Bounds) -> Any:
    """Return the value of a UTF-8 JSON text. Raises Unreadable, and nothing else."""
    check_bounds(text, bounds)
    try:
        value = orjson.loads(text)
        if is_all_of(text, orjson.dumps(value)):
            return value
    except (ValueError, TypeError):  # not JSON, or deeper than orjson writes
        pass
    return parse_strictly(text)


def is_all_of(text: bytes, again: bytes) -> bool:
    """Return whether nothing of a text is missing in `again`, which was written from its value.

    A duplicate key would be missing, and a number that was read differently would be written
    differently. Only blanks between the values may differ. Other spellings of the same value are
    left to the strict parser.
    """
    return again == text or again == text.translate(None, _BLANK_BYTES)


def parse_strictly(text: bytes) -> Any:
    """Parse a text within bounds with the standard library's parser. Raises Unreadable."""
    try:
        value = _decoded(text.decode("utf-8"))
        if _SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except Unreadable:
        raise
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 at byte {error.start}") from None
    except UnicodeEncodeError:
        raise Unreadable("a lone surrogate in a string") from None
    except json.JSONDecodeError as error:
        if begins_with_a_mark(text):
            raise Unreadable("a UTF-8 byte order mark at its start") from None
        raise Unreadable(f"not JSON at line {error.lineno} column {error.colno}") from None
    except ValueError:
        # int() refuses more digits than sys.get_int_max_str_digits(), 4300.
        raise Unreadable("a number with too many digits") from None
    return value


def check_bounds(text: bytes, bounds: Bounds) -> None:
    """Raises TooMuch for a JSON text that exceeds its bounds.

    Every step is linear and done in C. Most texts pass by counts alone, which include brackets and
    commas in strings: with fewer brackets than the depth it cannot be deeper, and every value has
    at least one byte.
    """
    opens = text.count(b"[") + text.count(b"{")
    if opens <= bounds.depth and (
        len(text) <= bounds.values or opens + text.count(b",") < bounds.values
    ):
        return
    structure = _structure(text)
    opens = structure.count(b"[") + structure.count(b"{")
    # JSON has as many closing brackets as opening ones: a parser stops before any further ones.
    steps = structure.translate(_STEPS, b",")[: 2 * min(opens, bounds.lists)]
    if max(accumulate(memoryview(steps).cast("b")), default=0) > bounds.depth:
        raise TooMuch("depth", bounds.depth)
    if opens > bounds.lists:
        raise TooMuch("lists", bounds.lists)
    if opens + structure.count(b",") >= bounds.values:
        raise TooMuch("values", bounds.values)


def _structure(text: bytes) -> bytes:
    """The brackets and commas of a JSON text that are not in strings."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two adjacent quotes are an empty string or the border of two strings. Without them, all other
    # quotes still begin or end a string.
    parts = text.translate(None, _UNSTRUCTURED).replace(b'""', b"").split(b'"')
    return b"".join(parts[::2])


def begins_with_a_mark(text: bytes) -> bool:
    """Return whether it begins with a UTF-8 byte order mark, which JSON forbids."""
    return text.startswith(codecs.BOM_UTF8)


def _decoded(text: str) -> Any:
    """Decode as `JSONDecoder.decode` does, but without its two patterns for blanks, which take a
    quarter of the time."""
    start = len(text) - len(text.lstrip(_BLANKS))
    value, end = _DECODER.raw_decode(text, start)
    if text[end:].strip(_BLANKS):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


_BLANKS: Final = " \t\n\r"
_BLANK_BYTES: Final = _BLANKS.encode()

#: Every byte but quotes, brackets and commas.
_UNSTRUCTURED: Final = bytes({*range(256)} - {*b'"[]{},'})

#: One deeper with each opening bracket, one less deep with each closing one, as signed bytes.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")

#: Escapes that may be a lone surrogate: only such texts need to be encoded again.
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unreadable("a key twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Unreadable("a number out of range")
    return number


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
)
