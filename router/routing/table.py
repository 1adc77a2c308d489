"""The route table: an event's key leads to a plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from router.model.event import FIELDS, OWN_KEYS, Event
from router.routing.index import Anchor, Glob, Index, Rule, Way
from router.routing.target import Target

#: What a target is to a plan.
Role = Literal["required", "optional"]

#: How many plans a table remembers.
_REMEMBERED = 4096

#: What is larger is not remembered, nor matched at once: characters of the five fields together,
#: and routes that match, or may. So a memory that someone fills on purpose stays below some 30 MB.
_CHARACTERS, _ROUTES = 1024, 256


@dataclass(frozen=True, slots=True)
class Route:
    """One rule: what it matches, and which targets are then required or optional."""

    name: str
    #: Field name to glob patterns: every field named has to match, by any of its patterns. So
    #: a route that names no field matches every event, and a field without patterns none.
    match: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    #: Its line in its file, 0 where it has none; and the file's path, as it was given.
    line: int = field(default=0, compare=False)
    file: str = field(default="", compare=False)

    @property
    def place(self) -> tuple[str, int]:
        """What puts routes into the order that people read them in."""
        return self.file, self.line

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an event leads to: its required and its optional targets, each once, by name."""

    required: tuple[Target, ...]
    optional: tuple[Target, ...]
    #: The routes that matched, by name. None matched: the event is unmatched.
    routes: tuple[Route, ...]

    @property
    def roles(self) -> dict[str, Role]:
        """What each target is to it, by the target's name."""
        roles: dict[str, Role] = {target.name: "required" for target in self.required}
        return roles | {target.name: "optional" for target in self.optional}

    def giving(self, target: str) -> tuple[Route, ...]:
        """The routes that make a target required, or if none does, optional; by its name."""
        requiring = [route for route in self.routes if target in route.required]
        return tuple(requiring or [route for route in self.routes if target in route.optional])


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """What became of one field that a route names."""

    field: str
    #: The event's value.
    value: str
    #: The route's patterns for it.
    patterns: tuple[str, ...]
    #: The first of them that matches; None where none does.
    pattern: str | None

    @property
    def matched(self) -> bool:
        return self.pattern is not None


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """What became of one route, field by field in the order of FIELDS."""

    route: Route
    fields: tuple[FieldMatch, ...]

    @property
    def matched(self) -> bool:
        return all(field.matched for field in self.fields)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an event leads to its plan."""

    plan: Plan
    #: Every route of the table, by name.
    routes: tuple[RouteMatch, ...]


class RouteTable:
    """All routes and targets of one configuration. The order they are given in means nothing.

    An event of the router's own fits only patterns of keys that begin as its key does: whoever
    wants all events of EBaaS gets no others.
    """

    def __init__(self, routes: Sequence[Route], targets: Mapping[str, Target]) -> None:
        """`targets` is by name. Raises GlobInvalid for a pattern that can't be read, and
        ValueError for a name used twice, and for a field or a target that does not exist."""
        #: Every route, by name.
        self.routes = tuple(sorted(routes, key=lambda route: route.name))
        #: Every target, used or not.
        self.targets: Mapping[str, Target] = MappingProxyType(dict(targets))
        self._check_names()
        self._required = frozenset(name for route in self.routes for name in route.required)
        self._globs = {pattern: Glob(pattern) for pattern in _patterns(self.routes)}
        self._index = Index([self._rule(route) for route in self.routes])
        self._plans: dict[tuple[str, ...], Plan] = {}

    @property
    def routes_as_written(self) -> list[Route]:
        """Every route, in the files' order."""
        return sorted(self.routes, key=lambda route: route.place)

    def match(self, event: Event) -> Plan:
        """What the event leads to.

        It costs the same whether there are ten routes or a hundred thousand, but for those that
        match it or share all their literals with it. The time grows with the values' length: a key
        of 10,000 digits has the literals of 10,000 routes like `*0123*4567*`, and takes 70 ms.
        Any thread may call it.
        """
        values = _values(event)
        plan = self._plans.get(values)
        return plan if plan is not None else self._matched(values, self._candidates(values))

    def match_at_once(self, event: Event) -> Plan | None:
        """The same, where it takes but a millisecond or two; None where it may take longer."""
        values = _values(event)
        plan = self._plans.get(values)
        if plan is not None:
            return plan
        if sum(map(len, values)) > _CHARACTERS:
            return None
        candidates = self._candidates(values)
        return None if len(candidates) > _ROUTES else self._matched(values, candidates)

    def role_of(self, target: str) -> Role:
        """What a target is to this table, by its name: required where some route requires it."""
        return "required" if target in self._required else "optional"

    def explain(self, event: Event) -> Explanation:
        """Why `match` gives what it gives; it looks at every route, and finds the plan anew."""
        values = dict(zip(FIELDS, _values(event), strict=True))
        routes = tuple(self._explained(route, values) for route in self.routes)
        return Explanation(self._plan([each.route for each in routes if each.matched]), routes)

    def _candidates(self, values: tuple[str, ...]) -> set[int]:
        """The positions of all routes that can match."""
        return self._index.candidates(dict(zip(FIELDS, values, strict=True)))

    def _matched(self, values: tuple[str, ...], candidates: Iterable[int]) -> Plan:
        by_field = dict(zip(FIELDS, values, strict=True))
        routes = [self.routes[at] for at in sorted(candidates)]
        plan = self._plan([route for route in routes if self._matches(route, by_field)])
        self._remember(values, plan)
        return plan

    def _matches(self, route: Route, values: Mapping[str, str]) -> bool:
        if _is_own(values["event_key"]) and "event_key" not in route.match:
            return False
        for name, patterns in route.match.items():
            if self._first_match(name, patterns, values[name]) is None:
                return False
        return True

    def _first_match(self, name: str, patterns: Iterable[str], value: str) -> str | None:
        is_own = name == "event_key" and _is_own(value)
        for pattern in patterns:
            if (not is_own or _is_own(pattern)) and self._globs[pattern].matches(value):
                return pattern
        return None

    def _plan(self, routes: Sequence[Route]) -> Plan:
        required = {name for route in routes for name in route.required}
        optional = {name for route in routes for name in route.optional} - required
        return Plan(self._named(required), self._named(optional), tuple(routes))

    def _named(self, names: Collection[str]) -> tuple[Target, ...]:
        return tuple(self.targets[name] for name in sorted(names))

    def _remember(self, values: tuple[str, ...], plan: Plan) -> None:
        if sum(map(len, values)) <= _CHARACTERS and len(plan.routes) <= _ROUTES:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()  # what is still in use comes back with its next event
            self._plans[values] = plan

    def _explained(self, route: Route, values: Mapping[str, str]) -> RouteMatch:
        named = [(name, values[name], route.match[name]) for name in FIELDS if name in route.match]
        if _is_own(values["event_key"]) and "event_key" not in route.match:
            named.append(("event_key", values["event_key"], ()))
        fields = (
            FieldMatch(name, value, patterns, self._first_match(name, patterns, value))
            for name, value, patterns in named
        )
        return RouteMatch(route, tuple(fields))

    def _rule(self, route: Route) -> Rule:
        return [
            [_anchors(name, self._globs[pattern]) for pattern in patterns]
            for name, patterns in route.match.items()
        ]

    def _check_names(self) -> None:
        for one, other in pairwise(self.routes):
            if one.name == other.name:
                raise ValueError(f"two routes are named {one.name!r}")
        fields = frozenset(FIELDS)
        for route in self.routes:
            if unknown := route.match.keys() - fields:
                raise ValueError(f"route {route.name!r}: no field is named {min(unknown)!r}")
            if unknown := {*route.required, *route.optional} - self.targets.keys():
                raise ValueError(f"route {route.name!r}: no target is named {min(unknown)!r}")


def _is_own(text: str) -> bool:
    """A key of the router's own events, or a pattern that is meant for them."""
    return text.startswith(OWN_KEYS)


def _values(event: Event) -> tuple[str, ...]:
    """The event's fields in the order of FIELDS."""
    return (
        event.event_source,
        event.event_topic,
        event.event_type,
        event.event_status,
        event.event_key,
    )


def _patterns(routes: Iterable[Route]) -> set[str]:
    return {p for route in routes for patterns in route.match.values() for p in patterns}


def _anchors(name: str, glob: Glob) -> Way:
    """The literals that the field's value must have for the glob to match it."""
    if len(glob.literals) == 1:
        return (Anchor(name, "whole", glob.literals[0]),)
    first, *middle, last = glob.literals
    anchors = [Anchor(name, "start", first), Anchor(name, "end", last)]
    anchors += [Anchor(name, "inside", literal) for literal in middle]
    return tuple(anchor for anchor in anchors if anchor.text)


#: The most of a value or pattern that is compared, in characters.
_COMPARED = 64


def nearest_routes(routes: Iterable[RouteMatch], count: int) -> list[RouteMatch]:
    """Of the routes that don't match, the `count` that were probably meant, likeliest first.

    A field that matches speaks for its route, and so does likeness where one doesn't.
    """
    return nlargest(count, (route for route in routes if not route.matched), key=_nearness)


def _nearness(route: RouteMatch) -> float:
    """From 0 to 1."""
    return sum(map(_likeness, route.fields)) / len(route.fields)


def _likeness(field: FieldMatch) -> float:
    if field.matched:
        return 1.0
    pairs = (SequenceMatcher(None, p[:_COMPARED], field.value[:_COMPARED]) for p in field.patterns)
    return max((pair.ratio() for pair in pairs), default=0.0)
