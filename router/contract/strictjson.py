"""JSON that every parser reads alike: anything that two parsers could read differently is refused.

A scan comes first and bounds the work: parsers hold the interpreter's lock, and a MiB of nested
lists takes them half a second. What passes is small enough for any parser.

The standard library's parser is the base; what it lets through is closed here: NaN and Infinity,
numbers beyond a float, duplicate keys, lone surrogates. It has the last word, and words what is
wrong. orjson takes less than half the time; what it reads counts where it writes the same text of
it.
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
    """Bounds on a JSON text, each larger than the last: see docs/explanation/security.md."""

    #: Lists and objects within each other.
    depth: int
    #: Lists and objects together: each costs a parser as much as ten other values.
    lists: int
    #: Values of every kind. They are counted by commas and opening brackets.
    values: int


#: A callback: a full MiB of ids, or of objects with a UUID each. A parser takes 10 ms, and 45 ms
#: in steps where numbers are written in a rare way.
CALLBACK: Final = Bounds(32, 25_000, 200_000)

#: A target's answer, of which `code` and `msg` are needed. A parser takes 1 ms.
ANSWER: Final = Bounds(8, 1_000, 5_000)

#: A request to the API, which may have a callback in it.
REQUEST: Final = Bounds(64, CALLBACK.lists + 100, CALLBACK.values + 100)

#: What a router says to a command: lists of 100,000 targets, and more.
ROUTER: Final = Bounds(64, 5_000_000, 50_000_000)


class Unreadable(ValueError):
    """Not strict JSON. The text says why and where, with nothing of the input in it."""


class TooMuch(Unreadable):
    """More than a text may have. It names the bound."""

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
    """The value of a UTF-8 JSON text. Raises Unreadable, and nothing else, for any bytes."""
    check_bounds(text, bounds)
    try:
        value = orjson.loads(text)
        if is_all_of(text, orjson.dumps(value)):
            return value
    except (ValueError, TypeError):  # no JSON; deeper than orjson writes
        pass
    return parse_strictly(text)


def is_all_of(text: bytes, again: bytes) -> bool:
    """Whether `again`, which was written from what was read of a text, has all that the text has.

    Of a key that is there twice one value would be missing, and a number that was read in another
    way would be written in another. Blanks may be left out where no string has one. What is written
    differently in any other way may be as good, and is not taken.
    """
    return again == text or again == text.translate(None, _BLANK_BYTES)


def parse_strictly(text: bytes) -> Any:
    """What `parse_json` promises, by the standard library's parser alone, of a text within
    bounds."""
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
    """Raises TooMuch for a text that is more than it may be, if it is JSON at all.

    Every step is linear and done in C. Most texts pass by counts alone, which include brackets and
    commas in strings: fewer brackets than the depth can't be deeper, and every value has a byte.
    """
    opens = text.count(b"[") + text.count(b"{")
    if opens <= bounds.depth and (
        len(text) <= bounds.values or opens + text.count(b",") < bounds.values
    ):
        return
    structure = _structure(text)
    opens = structure.count(b"[") + structure.count(b"{")
    # JSON has as many closing brackets as opening ones: a parser has stopped before any others.
    steps = structure.translate(_STEPS, b",")[: 2 * min(opens, bounds.lists)]
    if max(accumulate(memoryview(steps).cast("b")), default=0) > bounds.depth:
        raise TooMuch("depth", bounds.depth)
    if opens > bounds.lists:
        raise TooMuch("lists", bounds.lists)
    if opens + structure.count(b",") >= bounds.values:
        raise TooMuch("values", bounds.values)


def _structure(text: bytes) -> bytes:
    """The brackets and commas of a JSON text that are in no string."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes with nothing between may be one string or the border of two: either way all others
    # still are where a string begins or ends.
    parts = text.translate(None, _UNSTRUCTURED).replace(b'""', b"").split(b'"')
    return b"".join(parts[::2])


def begins_with_a_mark(text: bytes) -> bool:
    """Whether a UTF-8 byte order mark is before it: editors show none, and JSON has none."""
    return text.startswith(codecs.BOM_UTF8)


def _decoded(text: str) -> Any:
    """What `JSONDecoder.decode` gives, which looks for blanks with two patterns: here that is a
    quarter of the time, and an event and its answers are read here."""
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

#: The escapes that may leave half a character; only a text that has one needs the closer look.
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unreadable("a key twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Unreadable("a number out of range")
    return number


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
)
