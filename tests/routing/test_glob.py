"""Glob: what a pattern matches, and which patterns are refused."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from router.routing.index import Glob, GlobInvalid

#: Text in which every character means something to a pattern, or nearly so.
_soup = st.text("ab.1*?[]!", max_size=9)
_ranges = st.text("abcd-[]!*?^&|~\\", max_size=9)
_values = st.text("ab.1[]!-^\n", max_size=9)

#: Parts of a pattern, each with a text that it matches.
_FITS = [("a", "a"), (".", "."), ("*", ""), ("*", "ab."), ("?", "b"), ("[a.]", "."), ("[!a]", "b")]
_fitted = st.lists(st.sampled_from(_FITS), max_size=9).map(
    lambda pieces: ("".join(text for text, _ in pieces), "".join(fits for _, fits in pieces))
)
_any_pair = st.tuples(_soup, _values) | _fitted


def _glob(pattern: str) -> Glob:
    """The pattern compiled; an invalid one is no case for the property at hand."""
    try:
        return Glob(pattern)
    except GlobInvalid:
        assume(False)
        raise


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("a.gs.cert.1", "a.gs.cert.1", True),
        ("a.gs.cert.1", "a.gs.cert.10", False),
        ("a.gs.*", "a.gs.cert.1", True),
        ("*.revoked", "a.gs.cert.revoked", True),
        ("*.cert123.*", "a.gs.cert123.1", True),
        ("a.*.a", "a.a", False),
        ("*aa*aa", "aaa", False),
        ("*", "", True),
        ("*", "two\nlines", True),
        ("", "a", False),
        ("[3-5]", "4", True),
        ("[!3-5]", "4", False),
        ("[!]]", "]", False),
        ("a[[]b[?]", "a[b?", True),
        ("[^a]", "^", True),
        ("a.gs", "A.gs", False),
        (r"a\d", "a1", False),
        (r"a\*", r"a\b", True),
        ("证书.?", "证书.吊", True),
        ("?", "😀", True),
        ("a\0*", "a\0b", True),
    ],
)
def test_a_pattern_is_held_against_the_whole_value(pattern: str, value: str, matches: bool) -> None:
    """Stars, single characters and sets, each over the whole value and case-sensitive."""
    assert Glob(pattern).matches(value) is matches


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("[", "'['"),
        ("[!]", "'[!]'"),
        ("a.[bc", "'[bc'"),
        ("[z-a]", "'z-a'"),
        ("a.[!a-c9-0]", "'9-0'"),
        ("[\n", r"'[\n'"),
        ("[" * 100_000, "…"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str, message: str) -> None:
    """A set without an end and a range that runs backwards are named, in a line of text."""
    with pytest.raises(GlobInvalid) as refused:
        Glob(pattern)
    text = str(refused.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 120


@pytest.mark.parametrize(
    ("pattern", "end", "matches"),
    [
        ("*a*a*a*b", "", False),
        ("a*" * 200 + "b", "", False),
        ("*a?a*a?b*", "c", False),
        ("*[ab]*[ab]*[ab]*[!a]", "", False),
        ("?*?*?*?*?*?*[b]", "", False),
        ("*" + "a" * 500 + "?c*", "bc", True),
        ("*" + "a" * 500 + "[!a]c*", "c", False),
    ],
)
def test_a_hostile_value_is_answered_at_once(pattern: str, end: str, matches: bool) -> None:
    """A long run that nearly fits does not make a pattern go back; else this never ends."""
    assert Glob(pattern).matches("a" * 100_000 + end) is matches


@given(_any_pair | st.tuples(_ranges, _values))
def test_it_means_what_fnmatch_means(pair: tuple[str, str]) -> None:
    """Every valid pattern matches as in the standard library."""
    pattern, value = pair
    assert _glob(pattern).matches(value) is fnmatchcase(value, pattern)
