"""A naive implementation of globs, far too slow for anything but tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

_Takes = Callable[[str], bool]


@cache
def matches(pattern: str, value: str) -> bool:
    """Return whether the whole value matches. Raises ValueError for an unclosed set."""
    if pattern == "":
        return value == ""
    if pattern[0] == "*":
        return any(matches(pattern[1:], value[taken:]) for taken in range(len(value) + 1))
    takes, rest = _first(pattern)
    matches(rest, "")  # to find an unclosed set, whatever the value is
    return value != "" and takes(value[0]) and matches(rest, value[1:])


def _first(pattern: str) -> tuple[_Takes, str]:
    """Return a predicate for the characters of the first element, and the rest of the pattern."""
    first, rest = pattern[0], pattern[1:]
    if first == "?":
        return lambda _: True, rest
    if first != "[":
        return lambda character: character == first, rest
    negated = rest.startswith("!")
    members, closed, rest = rest[negated:][1:].partition("]")
    if not closed:
        raise ValueError(pattern)
    taken = _members(pattern[1 + negated] + members)
    return lambda character: (character in taken) is not negated, rest


def _members(text: str) -> set[str]:
    if len(text) >= 3 and text[1] == "-":
        low, high = sorted((ord(text[0]), ord(text[2])))
        return {chr(code) for code in range(low, high + 1)} | _members(text[3:])
    return {text[0]} | _members(text[1:]) if text else set()
