"""Routes that could be left out: another matches all that they match, and has all their targets."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from router.routes import Route

#: How many routes with one pattern are compared with another; more would cost too much.
_COMPARED = 16

_LITERAL = re.compile(r"[^*?\[]*")


def redundant(routes: Sequence[Route]) -> Iterator[tuple[int, int]]:
    """Pairs of a route and another that makes it redundant, by index.

    All of them are right; not all are found. Of twins the later one is redundant.
    """
    by_pattern: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, route in enumerate(routes):
        # One field is enough to find a route by.
        field, patterns = next(iter(route.match.items()))
        for pattern in patterns:
            if len(by_pattern[field, pattern]) < _COMPARED:
                by_pattern[field, pattern].append(at)
    for at, route in enumerate(routes):
        keys = (key for key in _wider(route) if key in by_pattern)
        for other in (other for key in keys for other in by_pattern[key]):
            twin_before = other < at or not _replaces(route, routes[other])
            if other != at and _replaces(routes[other], route) and twin_before:
                yield at, other
                break


def _wider(route: Route) -> Iterator[tuple[str, str]]:
    """The patterns, with their fields, that a route which replaces this one may have."""
    for field, patterns in route.match.items():
        first = patterns[0]
        yield field, first
        literal = _literal(first)
        for end in range(len(literal) + 1):
            yield field, literal[:end] + "*"


def _replaces(wide: Route, narrow: Route) -> bool:
    """Whether `wide` does all that `narrow` does."""
    return (
        {*narrow.required} <= {*wide.required}
        and {*narrow.optional} <= {*wide.required, *wide.optional}
        and all(
            any(_covers(one, other) for one in patterns)
            for field, patterns in wide.match.items()
            for other in narrow.match.get(field, ("*",))
        )
    )


def _covers(wide: str, narrow: str) -> bool:
    """Whether every value that `narrow` matches surely is one that `wide` matches."""
    if wide == narrow:
        return True
    # A wildcard that is before the star is in no literal.
    return wide.endswith("*") and _literal(narrow).startswith(wide[:-1])


def _literal(pattern: str) -> str:
    """What every value that the pattern matches begins with."""
    match = _LITERAL.match(pattern)
    return match[0] if match else ""
