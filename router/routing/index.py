"""Finds, among very many rules, the few whose literal text an event has. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Final, Literal, NamedTuple

#: Up to so many rules of one anchor are simply tried one by one.
_FEW: Final = 8

#: So many anchors deep a rule is filed, at the most.
_DEPTH: Final = 4

#: So many characters of a literal inside a value are looked up before all of them are.
_STEM: Final = 4

Place = Literal["whole", "start", "end", "inside"]


class Anchor(NamedTuple):
    """Literal text, never empty, that a field's value must have at a place."""

    field: str
    place: Place
    text: str


#: Anchors which an event must all have; where there are none, every event will do.
Way = tuple[Anchor, ...]
#: Any one of these ways.
Clause = Sequence[Way]
#: Every one of these clauses.
Rule = Sequence[Clause]


class Index:
    """Rules, known by their position, each filed under the rarest anchor of each of its ways.

    Where many rules share an anchor, they are filed again below it, under the rarest of what else
    they ask for. So an event meets only rules that share all the literals they are filed under,
    and a look-up costs the same with ten rules as with a hundred thousand.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        counts = Counter(
            anchor for rule in rules for clause in rule for way in clause for anchor in way
        )
        ways = ((number, _ways(rule, counts)) for number, rule in enumerate(rules))
        self._root = _Node([(number, way) for number, clause in ways for way in clause], _DEPTH)

    def candidates(self, values: Mapping[str, str]) -> set[int]:
        """The positions of all rules that can match, and of few that don't; values by field."""
        return self._root.candidates(values)


def _ways(rule: Rule, counts: Mapping[Anchor, int]) -> Clause:
    """Ways to file the rule under: every event that it matches has one of them.

    Of the clauses that have several ways the best one is made use of, and only where the others
    ask for nothing rare: lists never multiply.
    """
    certain = tuple(anchor for clause in rule if len(clause) == 1 for anchor in clause[0])
    lists = [[way + certain for way in clause] for clause in rule if len(clause) != 1]

    def commonest(ways: Clause) -> float:
        return max((min((counts[a] for a in way), default=inf) for way in ways), default=0)

    if not lists or commonest([certain]) <= _FEW:
        return [certain]
    return min(lists, key=commonest)


class _Node:
    __slots__ = ("_always", "_tables")

    def __init__(self, entries: Sequence[tuple[int, Way]], depth: int) -> None:
        counts = Counter(anchor for _, way in entries for anchor in way)
        filed: defaultdict[Anchor, list[tuple[int, Way]]] = defaultdict(list)
        self._always: list[int] = []
        for number, way in entries:
            if way:
                rarest = min(way, key=counts.__getitem__)
                filed[rarest].append((number, tuple(a for a in way if a != rarest)))
            else:
                self._always.append(number)
        self._tables = _tables(filed, depth)

    def candidates(self, values: Mapping[str, str]) -> set[int]:
        found = set(self._always)
        for field, table in self._tables:
            for bucket in table.hits(values[field]):
                found.update(bucket.candidates(values) if isinstance(bucket, _Node) else bucket)
        return found


#: What is filed under one anchor: few rules, or many that are filed again.
_Bucket = tuple[int, ...] | _Node


def _tables(
    filed: Mapping[Anchor, Sequence[tuple[int, Way]]], depth: int
) -> Sequence[tuple[str, _Table]]:
    buckets: defaultdict[tuple[str, Place], dict[str, _Bucket]] = defaultdict(dict)
    for (field, place, text), entries in filed.items():
        few = len(entries) <= _FEW or depth == 1
        buckets[field, place][text] = (
            tuple(number for number, _ in entries) if few else _Node(entries, depth - 1)
        )
    return [(field, _TABLES[place](texts)) for (field, place), texts in buckets.items()]


class _Table:
    """The buckets of one field and place, by text."""

    __slots__ = ("_buckets",)

    def __init__(self, buckets: Mapping[str, _Bucket]) -> None:
        self._buckets = buckets

    def hits(self, value: str) -> Iterable[_Bucket]:
        """The buckets whose text is the whole value."""
        bucket = self._buckets.get(value)
        return () if bucket is None else (bucket,)


class _Starts(_Table):
    __slots__ = ("_lengths",)

    def __init__(self, buckets: Mapping[str, _Bucket]) -> None:
        super().__init__(buckets)
        self._lengths = sorted({len(text) for text in buckets})

    def hits(self, value: str) -> Iterator[_Bucket]:
        """The buckets whose text the value starts with."""
        for length in self._lengths:
            if length > len(value):
                return
            if (bucket := self._buckets.get(value[:length])) is not None:
                yield bucket


class _Ends(_Starts):
    __slots__ = ()

    def hits(self, value: str) -> Iterator[_Bucket]:
        """The buckets whose text the value ends with."""
        for length in self._lengths:
            if length > len(value):
                return
            if (bucket := self._buckets.get(value[-length:])) is not None:
                yield bucket


class _Insides(_Table):
    __slots__ = ("_stem_lengths", "_stems")

    def __init__(self, buckets: Mapping[str, _Bucket]) -> None:
        super().__init__(buckets)
        stems: defaultdict[str, set[int]] = defaultdict(set)
        for text in buckets:
            stems[text[:_STEM]].add(len(text))
        #: How texts begin, and how long those are that begin so.
        self._stems = {stem: sorted(lengths) for stem, lengths in stems.items()}
        self._stem_lengths = sorted({len(stem) for stem in stems})

    def hits(self, value: str) -> Collection[_Bucket]:
        """The buckets whose text is somewhere in the value, each once."""
        found: dict[str, _Bucket] = {}
        for size in self._stem_lengths:
            for at in range(len(value) - size + 1):
                for length in self._stems.get(value[at : at + size], ()):
                    text = value[at : at + length]
                    if (bucket := self._buckets.get(text)) is not None:
                        found[text] = bucket
        return found.values()


_TABLES: Final[Mapping[Place, type[_Table]]] = {
    "whole": _Table,
    "start": _Starts,
    "end": _Ends,
    "inside": _Insides,
}
