"""Patterns and routes that can hardly be meant: what is special elsewhere stands for itself here,
and another route does all that this one does. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from router.model.event import OWN_KEYS
from router.routing.table import Route

#: Nearly all patterns are of these characters alone, and there is nothing odd in them.
_PLAIN = re.compile(r"[A-Za-z0-9_.*?-]+")


def _as_glob(match: re.Match[str]) -> str:
    return re.sub(r"\\(.?)|\.\*", lambda at: "*" if at[0] == ".*" else at[1], match[0])


#: What looks like more than a pattern is, why it is not, and what is to be in its stead.
_ODD: tuple[tuple[re.Pattern[str], str, str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"^\s+|\s+$"), "has a blank at an end, which only a value with one has", ""),
    (
        re.compile("[\u201c\u201d\u201e\u2018\u2019«»]"),
        "has quotes of a text in it, which stand for themselves",
        "",
    ),
    (
        re.compile("[\uff01-\uff5e\u3002]"),
        "has a full-width character, which stands for itself",
        lambda match: "." if match[0] == "\u3002" else chr(ord(match[0]) - 0xFEE0),
    ),
    (re.compile(r"^\^|\$$"), "always is for the whole value: ^ and $ stand for themselves", ""),
    (re.compile(r".*\\.*"), r"is no regular expression: \ stands for itself", _as_glob),
    (
        re.compile("^!"),
        "excludes nothing: ! stands for itself, and only in a set, [!…], negates",
        "",
    ),
    (re.compile(r"\[\^"), "is no regular expression: ! negates a set, ^ does not", "[!"),
)

#: Alternatives as shells and regular expressions have them.
_GROUP = re.compile(r"\{([^{}]*,[^{}]*)\}|\((?:\?:)?([^()]*\|[^()]*)\)")

#: The most patterns that a list is spelled out for.
_SPELLED = 8


def oddity(pattern: str) -> tuple[str, list[str]] | None:
    """Why a pattern can hardly be meant, and what to write instead; one or a list, or nothing where
    that would be too much."""
    if _PLAIN.fullmatch(pattern):
        return None
    meant, why = pattern, ""
    for odd, because, instead in _ODD:
        if odd.search(meant):
            why = why or because
            meant = odd.sub(instead, meant)
    if _GROUP.search(meant):
        return why or "has no alternatives in it: they are a list of patterns", _spelled(meant)
    if "," in meant and not set("[({") & set(meant):
        parts = [part.strip() for part in meant.split(",")]
        return why or "is one pattern, the comma in it too: several are a list", _few(parts)
    if not why:
        return None
    # What was to be left out has no pattern in its stead.
    return why, [] if pattern.startswith("!") else [meant]


def _spelled(pattern: str) -> list[str]:
    """A pattern for each of the alternatives in it."""
    patterns = [pattern]
    while len(patterns) <= _SPELLED and (match := _GROUP.search(patterns[0])):
        parts = re.split("[,|]", match[1] or match[2])
        # It is the first group of each of them, for they differ before it alone.
        patterns = [each.replace(match[0], part, 1) for each in patterns for part in parts]
    return _few(patterns)


def _few(patterns: list[str]) -> list[str]:
    return patterns if len(patterns) <= _SPELLED else []


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
    wide = cache(lambda at: _Wide(routes[at]))
    for at, route in enumerate(routes):
        keys = (key for key in _wider(route) if key in by_pattern)
        for other in (other for key in keys for other in by_pattern[key]):
            if other == at or not wide(other).replaces(route):
                continue
            if other < at or not wide(at).replaces(routes[other]):
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


class _Wide:
    """A route that may make others redundant; what it asks for is looked up, not gone through."""

    def __init__(self, route: Route) -> None:
        self._required = {*route.required}
        self._targets = {*route.required, *route.optional}
        self._match = {field: _Patterns(patterns) for field, patterns in route.match.items()}

    def replaces(self, narrow: Route) -> bool:
        """Whether this one does all that `narrow` does."""
        return (
            self._required.issuperset(narrow.required)
            and self._targets.issuperset(narrow.optional)
            and all(
                all(map(patterns.cover, narrow.match.get(field, ("*",))))
                for field, patterns in self._match.items()
            )
            and ("event_key" in self._match or not _is_own(narrow))
        )


class _Patterns:
    """The patterns of one field, any of which may match."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = {*patterns}
        # A wildcard that is before the star is in no literal.
        self._starts = {pattern[:-1] for pattern in patterns if pattern.endswith("*")}
        self._lengths = {len(start) for start in self._starts}

    def cover(self, narrow: str) -> bool:
        """Whether every value that `narrow` matches surely is one that a single one matches."""
        if narrow in self._patterns:
            return True
        literal = _literal(narrow)
        # What is meant for the router's own events is covered by what is meant for them alone.
        least = len(OWN_KEYS) if narrow.startswith(OWN_KEYS) else 0
        lengths = (length for length in self._lengths if length >= least)
        return any(literal[:length] in self._starts for length in lengths)


def _is_own(route: Route) -> bool:
    """Whether it is meant for the router's own events, which fit no route without keys."""
    return any(pattern.startswith(OWN_KEYS) for pattern in route.match.get("event_key", ()))


def _literal(pattern: str) -> str:
    """What every value that the pattern matches begins with."""
    match = _LITERAL.match(pattern)
    return match[0] if match else ""
