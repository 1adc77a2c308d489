"""Strict JSON: one reading or none."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.strictjson import Unreadable, parse_json

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
    """What the standard library writes is read back as the same value."""
    for escaped in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_unreadable(text: bytes) -> None:
    """No bytes make it raise anything else."""
    with suppress(Unreadable):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON at line 1 column 1"),
        (b"[1,\n2", "not JSON at line 2 column 2"),
        (b"\xef\xbb\xbf{}", "a UTF-8 byte order mark at its start"),
        (b"[NaN]", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"[1e999]", "a number out of range"),
        (b"9" * 5000, "a number with too many digits"),
        (b'{"a":1,"a":1}', "a key twice in one object"),
        (b'[{"a":{"b":1,"\\u0062":2}}]', "a key twice in one object"),
        (b'"\\ud800"', "a lone surrogate in a string"),
        (b'{"\\udfff":1}', "a lone surrogate in a string"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: bytes, why: str) -> None:
    """Each trap is named, and nothing of the input is repeated."""
    with pytest.raises(Unreadable, match=f"^{why}$"):
        parse_json(text)
