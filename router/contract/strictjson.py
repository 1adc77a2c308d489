"""JSON that every parser reads alike: anything that two parsers could read differently is refused.

The standard library's parser is the base; what it lets through is closed here: NaN and Infinity,
numbers beyond a float, duplicate keys, lone surrogates, and depth, of which each version of Python
has its own idea. It has the last word, and words what is wrong. orjson takes less than half the
time; what it reads counts where it writes the same text of it.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any, Final, NoReturn

import orjson

#: The most lists and objects that may be within each other. Common parsers stop at 64 to 1,024.
MAX_NESTING: Final = 500


class Unreadable(ValueError):
    """Not strict JSON. The text says why and where, with nothing of the input in it."""


def parse_json(text: bytes) -> Any:
    """The value of a UTF-8 JSON text. Raises Unreadable, and nothing else, for any bytes."""
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
    """What `parse_json` promises, by the standard library's parser alone."""
    if _is_deep(text):
        raise Unreadable("nested too deeply")
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


def _is_deep(text: bytes) -> bool:
    """Whether lists and objects are more than MAX_NESTING deep in what may be JSON."""
    if text.count(b"[") + text.count(b"{") <= MAX_NESTING:
        return False
    depth = 0
    for bracket in _STRING.sub(b"", text).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_NESTING:
            return True
    return False


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

#: Also one without an end, so that nothing is gone through twice; and every byte but the brackets.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes({*range(256)} - {*b"[]{}"})

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
