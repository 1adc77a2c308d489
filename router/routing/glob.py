"""Patterns over a whole value: what `*`, `?` and `[…]` match. Pure."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Final

from router.model.errors import RouterError

#: A wildcard: a run of stars, one character, a set. What opens a set and never closes it runs to
#: the end. A set's first member may be `]`, so `[]` and `[!]` are still open.
_WILDCARD: Final = re.compile(r"(\*+|\?|\[!?.[^]]*]|\[.*)", re.DOTALL)
_RANGE: Final = re.compile("(.)-(.)", re.DOTALL)


class GlobInvalid(RouterError):
    """A pattern that can't be meant: a set without its end, a range that runs backwards."""


class Glob:
    """A pattern over a whole value, case-sensitive.

    `*` is any run of characters, dots and line ends included, or nothing; `?` is exactly one;
    `[abc]`, `[a-z]` and `[!a]` are one of a set, as in the standard library's `fnmatch`. Any other
    character is itself; `[*]`, `[?]` and `[[]` are the special ones taken literally.
    """

    __slots__ = ("_regex", "_stars_only", "literals", "parts", "pattern")

    def __init__(self, pattern: str) -> None:
        """Raises GlobInvalid."""
        #: Literal texts and wildcards by turns; the first and the last are texts.
        self.parts = tuple(_WILDCARD.split(pattern))
        for wildcard in self.parts[1::2]:
            if wildcard[0] == "[":
                _check_set(wildcard)
        #: The pattern as it was written.
        self.pattern = pattern
        #: The text around the wildcards: what matches starts with the first, ends with the last,
        #: and has the others between them, in this order, none overlapping. If there is only one,
        #: it is the whole value. Any but that one may be empty in a pattern that isn't.
        self.literals = self.parts[::2]
        self._stars_only = "?" not in pattern and "[" not in pattern
        self._regex: re.Pattern[str] | None = None

    def __repr__(self) -> str:
        return f"Glob({self.pattern!r})"

    def matches(self, value: str) -> bool:
        """Whether the whole value fits. No value makes it go back and try again."""
        return self._has_literals(value) and (self._stars_only or self._fits(value))

    def _has_literals(self, value: str) -> bool:
        # To take each literal as early as it comes is right: it leaves the most to the others.
        # Where every wildcard is a star, nothing else is asked.
        first, last = self.literals[0], self.literals[-1]
        if len(self.literals) == 1:
            return value == first
        at, end = len(first), len(value) - len(last)
        if at > end or not value.startswith(first) or not value.endswith(last):
            return False
        for literal in self.literals[1:-1]:
            at = value.find(literal, at, end)
            if at < 0:
                return False
            at += len(literal)
        return True

    def _fits(self, value: str) -> bool:
        # Compiled when it is first needed: a hundred thousand would take half a minute. What
        # fnmatch makes has an atomic group for each star, so it never goes back.
        if self._regex is None:
            self._regex = re.compile(translate(self.pattern))
        return self._regex.match(value) is not None


def _check_set(text: str) -> None:
    if not text.endswith("]") or text in ("[]", "[!]"):
        raise GlobInvalid(f"the set {_clipped(text)} has no end; write '[[]' for a '[' itself")
    for low, high in _RANGE.findall(text[1:-1].removeprefix("!")):
        if low > high:
            raise GlobInvalid(f"the range {f'{low}-{high}'!r} in {_clipped(text)} runs backwards")


def _clipped(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
