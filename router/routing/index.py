"""Glob patterns, and an index that finds the rules which may match an event."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from functools import partial
from math import inf
from typing import Final, Literal, NamedTuple

from router.model.errors import RouterError

#: Up to this many rules with the same anchor are tried one by one.
_FEW_RULES: Final = 8

#: The deepest that a rule is filed, in anchors.
_DEPTH: Final = 4

#: The first look-up of a literal inside a value is for so many characters of it.
_STEM: Final = 4

Place = Literal["whole", "start", "end", "inside"]


class Anchor(NamedTuple):
    """Literal text, never empty, that a field's value must have at a place."""

    field: str
    place: Place
    text: str


#: Anchors all of which an event must have; any event, if there are none.
Way = tuple[Anchor, ...]
#: Any one of these ways.
Clause = Sequence[Way]
#: Every one of these clauses.
Rule = Sequence[Clause]


class Index:
    """Rules by number, each filed under the rarest anchor of each of its ways.

    If many rules share an anchor, they are filed again below it, under the rarest of their other
    anchors. So an event meets only rules that share all the literals they are filed under, and a
    look-up costs the same with ten rules as with a hundred thousand.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        counts = Counter(
            anchor for rule in rules for clause in rule for way in clause for anchor in way
        )
        ways = ((number, _ways(rule, counts)) for number, rule in enumerate(rules))
        self._root = _Node([(number, way) for number, clause in ways for way in clause], _DEPTH)
        #: Returns the numbers of all rules that can match values by field, and of few others.
        self.candidates = self._root.candidates


def _ways(rule: Rule, counts: Mapping[Anchor, int]) -> Clause:
    """Return ways to file the rule under: every event that it matches has one of them.

    At most one clause with several ways is used, the best one, and only if the clauses with one way
    have no rare anchor: lists never multiply.
    """
    certain = tuple(anchor for clause in rule if len(clause) == 1 for anchor in clause[0])
    lists = [[way + certain for way in clause] for clause in rule if len(clause) != 1]

    def commonest(ways: Clause) -> float:
        return max((min((counts[a] for a in way), default=inf) for way in ways), default=0)

    if not lists or commonest([certain]) <= _FEW_RULES:
        return [certain]
    return min(lists, key=commonest)


class _Node:
    """Rules that are always candidates, and others by the anchors of an event."""

    __slots__ = ("_always", "_lookups")

    def __init__(self, entries: Sequence[tuple[int, Way]], depth: int) -> None:
        counts = Counter(anchor for _, way in entries for anchor in way)
        filed: defaultdict[Anchor, list[tuple[int, Way]]] = defaultdict(list)
        for number, way in entries:
            if way:
                rarest = min(way, key=counts.__getitem__)
                filed[rarest].append((number, tuple(a for a in way if a != rarest)))
        self._always = [number for number, way in entries if not way]
        self._lookups = _lookups(filed, depth)

    def candidates(self, values: Mapping[str, str]) -> set[int]:
        hits = set(self._always)
        for field, lookup in self._lookups:
            for bucket in lookup(values[field]):
                hits.update(bucket.candidates(values) if isinstance(bucket, _Node) else bucket)
        return hits


#: The rules under one anchor: a few, or many that are filed again.
_Bucket = tuple[int, ...] | _Node

#: Returns the buckets whose text a value has at its place, each once.
_Lookup = Callable[[str], Iterable[_Bucket]]


def _lookups(
    filed: Mapping[Anchor, Sequence[tuple[int, Way]]], depth: int
) -> Sequence[tuple[str, _Lookup]]:
    buckets: defaultdict[tuple[str, Place], dict[str, _Bucket]] = defaultdict(dict)
    for (field, place, text), entries in filed.items():
        few = len(entries) <= _FEW_RULES or depth == 1
        buckets[field, place][text] = (
            tuple(number for number, _ in entries) if few else _Node(entries, depth - 1)
        )
    return [(field, _LOOKUPS[place](texts)) for (field, place), texts in buckets.items()]


def _whole(buckets: Mapping[str, _Bucket]) -> _Lookup:
    return lambda value: (buckets[value],) if value in buckets else ()


def _starts(buckets: Mapping[str, _Bucket], *, at_end: bool = False) -> _Lookup:
    lengths = sorted({len(text) for text in buckets})

    def hits(value: str) -> Iterator[_Bucket]:
        for length in lengths:
            if length > len(value):
                return
            text = value[-length:] if at_end else value[:length]
            if text in buckets:
                yield buckets[text]

    return hits


def _insides(buckets: Mapping[str, _Bucket]) -> _Lookup:
    #: The lengths of texts by their beginning.
    stems: defaultdict[str, set[int]] = defaultdict(set)
    for text in buckets:
        stems[text[:_STEM]].add(len(text))
    sizes = sorted({len(stem) for stem in stems})

    def hits(value: str) -> Iterable[_Bucket]:
        texts: dict[str, _Bucket] = {}
        for size in sizes:
            for at in range(len(value) - size + 1):
                for length in stems.get(value[at : at + size], ()):
                    text = value[at : at + length]
                    if text in buckets:
                        texts[text] = buckets[text]
        return texts.values()

    return hits


_LOOKUPS: Final[Mapping[Place, Callable[[Mapping[str, _Bucket]], _Lookup]]] = {
    "whole": _whole,
    "start": _starts,
    "end": partial(_starts, at_end=True),
    "inside": _insides,
}


#: A wildcard: a run of stars, one character, or a set. A set without an end runs to the end of the
#: pattern. Its first member may be `]`, so `[]` and `[!]` have no end.
_WILDCARD: Final = re.compile(r"(\*+|\?|\[!?.[^]]*]|\[.*)", re.DOTALL)
_RANGE: Final = re.compile("(.)-(.)", re.DOTALL)


class GlobInvalid(RouterError):
    """A pattern with a set without an end, or a range that runs backwards."""


class Glob:
    """A case-sensitive pattern for a whole value, as in the standard library's `fnmatch`.

    `*` matches any characters, also dots and line ends, or nothing; `?` exactly one; `[abc]`,
    `[a-z]` and `[!a]` one of a set. Any other character matches itself; `[*]`, `[?]` and `[[]`
    match the special ones.
    """

    __slots__ = ("_regex", "_stars_only", "literals", "parts", "pattern")

    def __init__(self, pattern: str) -> None:
        """Raises GlobInvalid."""
        #: Literal texts and wildcards alternately; the first and the last are texts.
        self.parts = tuple(_WILDCARD.split(pattern))
        for wildcard in self.parts[1::2]:
            if wildcard[0] == "[":
                _check_set(wildcard)
        self.pattern = pattern
        #: The texts around the wildcards, some of them empty. A value that matches starts with the
        #: first, ends with the last, and has the others between them, in order, none overlapping.
        #: A single one is the whole value.
        self.literals = self.parts[::2]
        self._stars_only = "?" not in pattern and "[" not in pattern
        self._regex: re.Pattern[str] | None = None

    def __repr__(self) -> str:
        return f"Glob({self.pattern!r})"

    def matches(self, value: str) -> bool:
        """Return whether the whole value matches. It never backtracks."""
        return self._has_literals(value) and (self._stars_only or self._fits(value))

    def covers(self, other: Glob) -> bool:
        """Return whether every value that `other` matches surely matches this. A pattern with `?`
        or a set covers only itself."""
        # A NUL stands for each wildcard of `other`. No literal has one.
        fixed = "\0".join(other.literals)
        return self.pattern == other.pattern or (self._stars_only and self._has_literals(fixed))

    def _has_literals(self, value: str) -> bool:
        # The earliest occurrence of each literal leaves the most to the others. If every wildcard
        # is a star, this is the whole match.
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
        # Compiled when it is first needed: a hundred thousand patterns would take half a minute.
        # fnmatch makes an atomic group of each star, so it never backtracks.
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
