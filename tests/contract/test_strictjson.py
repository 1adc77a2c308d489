"""Strict JSON: one reading or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract import strictjson
from router.contract.strictjson import (
    ANSWER,
    CALLBACK,
    REQUEST,
    Bounds,
    TooMuch,
    Unreadable,
    parse_strictly,
)
from tests.support.effort import LONG

#: Texts on which both readings have to agree: more with LONG=1, which `make test-long` sets.
MANY = 5_000 if LONG else 100

#: More than any text here has, but for those that are about bounds.
WIDE = Bounds(600, 1_000_000, 1_000_000)


def parse_json(text: bytes) -> Any:
    return strictjson.parse_json(text, WIDE)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_values)
def test_every_json_value_comes_through_unchanged(value: object) -> None:
    """A text that the standard library writes is read as the same value."""
    for escaped in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON at line 1 column 1"),
        (b"[1,\n2", "not JSON at line 2 column 2"),
        (b"{}{}", "not JSON at line 1 column 3"),
        (b'"\n"', "not JSON at line 1 column 2"),
        (b'"\xc0\xaf"', "not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "a UTF-8 byte order mark at its start"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[1e999]", "a number out of range"),
        (b"9" * 5000, "a number with too many digits"),
        (b'{"a":1,"a":1}', "a key twice in one object"),
        (b'[{"a":{"b":1,"\\u0062":2}}]', "a key twice in one object"),
        (b'"\\ud800"', "a lone surrogate in a string"),
        (b'{"\\udfff":1}', "a lone surrogate in a string"),
        (b'["\\uDfFf","\\ud83d\\uDe00"]', "a lone surrogate in a string"),
        (b'"\\uDE00"', "a lone surrogate in a string"),
        (b"{}\xc2\xa0", "not JSON at line 1 column 3"),
        (b"\x0c{}", "not JSON at line 1 column 1"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "nested more than 600 deep"),
        (b'{"a":' * 100_000, "nested more than 600 deep"),
    ],
)
def test_an_ambiguous_text_is_refused(text: bytes, why: str) -> None:
    """The error names the cause and repeats nothing of the input."""
    with pytest.raises(Unreadable, match=f"^{why}$"):
        parse_json(text)


EVERY = pytest.mark.parametrize("bounds", [CALLBACK, ANSWER, REQUEST])


def refused(text: bytes, bounds: Bounds) -> str:
    with pytest.raises(TooMuch) as caught:
        strictjson.parse_json(text, bounds)
    return str(caught.value)


@EVERY
@pytest.mark.parametrize(
    "one", [b"[]", b"{}", b'{"[":"}"}', b"1", b'"a"', b"1e2", b"null", b'",["']
)
def test_lists_and_values_have_one_bound_each(bounds: Bounds, one: bytes) -> None:
    """The list around them counts too; brackets and commas in strings do not."""
    is_list = one[:1] in (b"[", b"{")
    most, kind = (bounds.lists, "lists and objects") if is_list else (bounds.values, "values")
    strictjson.parse_json(b"[%b]" % b",".join([one] * (most - 1)), bounds)
    assert refused(b"[%b]" % b",".join([one] * most), bounds) == f"more than {most:,} {kind}"


def test_a_mib_of_ids_is_within_bounds() -> None:
    """The largest callback passes, with ids or with objects that have a UUID each."""
    many = json.dumps({"changes": ["12345678"] * 100_000}, separators=(",", ":"))
    objects = json.dumps({"changes": [{"id": "0" * 36}] * 22_000})
    for text in (many, objects, json.dumps(["id"] * 170_000)):
        strictjson.parse_json(text.encode(), CALLBACK)


def _within(value: Any, bounds: Bounds) -> bool:
    depth, level, lists, values = 0, [value], 0, 0
    while level:
        inner = [each for each in level if isinstance(each, list | dict)]
        values += len(level) + sum(not each for each in inner)  # an empty one is counted as two
        lists += len(inner)
        depth += bool(inner)
        level = [x for each in inner for x in (each.values() if isinstance(each, dict) else each)]
    return depth <= bounds.depth and lists <= bounds.lists and values <= bounds.values


_hard_texts = st.text('[]{},:"\\a', max_size=4)
_hard_values = st.recursive(
    st.just(1) | _hard_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_hard_texts, inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=MANY, deadline=None)
@given(_hard_values, st.builds(Bounds, st.integers(1, 5), st.integers(5, 10), st.integers(10, 20)))
def test_the_scan_counts_what_a_parser_reads(value: object, bounds: Bounds) -> None:
    """A text is refused if and only if it exceeds a bound. Brackets in strings do not count."""
    for how in ({"separators": (",", ":")}, {"indent": 1}):
        text = json.dumps(value, **how).encode()
        try:
            assert strictjson.parse_json(text, bounds) == value
        except TooMuch:
            assert not _within(value, bounds)
        else:
            assert _within(value, bounds)


def _blank_or_not(*inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Join texts, mostly without blanks between them."""
    between = st.sampled_from(["", "", "", " ", "\n", "\t\r", "\f", "\u00a0"])
    parts = [part for one in inner for part in (between, one)]
    return st.tuples(*parts, between).map("".join)


def _object(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """An object with few possible names, so that some are duplicates."""
    name = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"é"', '""', '"a,b"', '": "'])
    return st.lists(_blank_or_not(name, st.just(":"), inner), max_size=4).map(
        lambda members: "{" + ",".join(members) + "}"
    )


_numbers = st.one_of(st.integers(), st.floats()).map(str) | st.sampled_from(
    [
        *("0", "-0", "-0.0", "1.0", "0.1", "1e2", "1E2", "1e16", "1e+16", "1e-7"),
        *("5e-324", "1e400"),
        *("9007199254740993", "18446744073709551615", "18446744073709551616", "9" * 400),
        *("-9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "1" + "0" * 400 + ".0"),
        *("01", "+1", "1.", ".5", "-", "NaN", "-Infinity", "1_0", "0x1"),
    ]
)
_strings = st.text(max_size=5).map(json.dumps) | st.sampled_from(
    [
        *('""', '"a b"', '"\\/"', '"\\u0000"', '"\x00"', '"\x7f"', '"\\n"', '"\n"', '"\\x41"'),
        *('"\\uD83D\\uDE00"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u12"', '"\U0001f600"'),
        *("'a'", '"', '"\\"', '"{\\"a\\":1}"'),
    ]
)
_texts = st.recursive(
    _numbers | _strings | st.sampled_from(["null", "true", "false", "None", "", "/**/", "\ufeff1"]),
    lambda inner: (
        _object(inner)
        | st.lists(_blank_or_not(inner), max_size=4).map(lambda items: "[" + ",".join(items) + "]")
    ),
    max_leaves=12,
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    text = draw(_texts).encode()
    start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    piece = draw(st.sampled_from([b"", text[start:end] * 2, b",", b'"', b"\xff", b"\xed\xa0\x80"]))
    return text[:start] + piece + text[end:]


def _read(read: Callable[[bytes], object], text: bytes) -> str:
    """The value of a text, or the error; 1, 1.0 and True differ, as do 0.0 and -0.0."""
    try:
        return repr(read(text))
    except Unreadable as error:
        return f"Unreadable: {error}"


@settings(max_examples=MANY, deadline=None)
@given(_texts.map(str.encode) | _damaged() | _values.map(json.dumps).map(str.encode))
def test_the_quick_reading_is_the_strict_one(text: bytes) -> None:
    """Both give the same value, of the same types, or the same reason."""
    assert _read(parse_json, text) == _read(parse_strictly, text)


@pytest.mark.parametrize("depth", [2, 250, 254, 255, 500])
def test_deep_ones_are_read_alike(depth: int) -> None:
    """Texts too deep for the quick parser are left to the strict one."""
    for text in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        assert _read(parse_json, text) == _read(parse_strictly, text)
        assert not _read(parse_json, text).startswith("Unreadable")
