"""The route table: finds the plan for an event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from heapq import nlargest
from types import MappingProxyType
from typing import Literal, TypedDict

from router.model.event import FIELDS, OWN_KEYS, Event
from router.routing.index import Anchor, Glob, Index, Rule, Way
from router.routing.target import Target

#: The role of a target in a plan.
Role = Literal["required", "optional"]

#: The most plans that a table caches.
_REMEMBERED = 4096

#: The most pairs of patterns that are compared to find a route that cannot match.
_PAIRS = 1000

#: Plans of longer events, or with more routes, are neither cached nor found at once: characters of
#: the five fields together, and routes. So nobody can make the cache larger than about 30 MB.
_CHARACTERS, _ROUTES = 1024, 256


@dataclass(frozen=True, slots=True)
class Route:
    """A rule: the events that it matches, and their required and optional targets."""

    name: str
    #: Glob patterns by field: every field given here must match one of its patterns. So a route
    #: without fields matches every event, and one with an empty list matches none.
    match: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    #: Patterns by field, like `match`: an event that fits these too does not match. Empty: none.
    exception: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Its line in its file, 0 if it has none, and the file's path as it was given.
    line: int = field(default=0, compare=False)
    file: str = field(default="", compare=False)

    @property
    def place(self) -> tuple[str, int]:
        """Sort key: the order in the files."""
        return self.file, self.line

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The required and the optional targets of an event, each once, by name."""

    required: tuple[Target, ...]
    optional: tuple[Target, ...]
    #: The routes that match, by name. If there are none, the event is unmatched.
    routes: tuple[Route, ...]

    @property
    def roles(self) -> dict[str, Role]:
        """The role of each target, by its name."""
        roles: dict[str, Role] = {target.name: "required" for target in self.required}
        return roles | {target.name: "optional" for target in self.optional}

    def giving(self, target: str) -> tuple[Route, ...]:
        """Return the routes that require a target, or else those that have it as optional."""
        requiring = [route for route in self.routes if target in route.required]
        return tuple(requiring or [route for route in self.routes if target in route.optional])


class FieldMatch(TypedDict):
    """A field that a route names: the event's value, the patterns, and the first that matches."""

    field: str
    value: str
    patterns: list[str]
    pattern: str | None


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """A route, and the matches of its fields in the order of FIELDS."""

    route: Route
    fields: list[FieldMatch]
    #: The fields of its exception if the event fits that.
    exception: list[FieldMatch]

    @property
    def matched(self) -> bool:
        return _all_fit(self.fields) and not self.exception


def _all_fit(fields: Iterable[FieldMatch]) -> bool:
    return all(field["pattern"] is not None for field in fields)


class RouteTable:
    """All routes and targets of one configuration. Their order has no meaning.

    The router's own events match only patterns that begin like their keys: a route for all events
    of EBaaS does not get them.
    """

    def __init__(self, routes: Sequence[Route], targets: Mapping[str, Target]) -> None:
        """`targets` is by name, and has every target of the routes. Raises GlobInvalid for an
        invalid pattern."""
        #: Every route, by name.
        self.routes = tuple(sorted(routes, key=lambda route: route.name))
        #: Every target, used or not.
        self.targets: Mapping[str, Target] = MappingProxyType(dict(targets))
        self._required = frozenset(name for route in self.routes for name in route.required)
        self._globs = {pattern: Glob(pattern) for pattern in _patterns(self.routes)}
        self._index = Index([self._rule(route.match) for route in self.routes])
        self._plans: dict[tuple[str, ...], Plan] = {}

    @property
    def routes_as_written(self) -> list[Route]:
        """Every route, in the order of the files."""
        return sorted(self.routes, key=lambda route: route.place)

    def match(self, event: Event) -> Plan:
        """Return the plan for an event.

        It costs the same with ten routes as with a hundred thousand, except for routes that match,
        or would but for their exception, or share all their literals with the event. A key of
        10,000 digits has the literals of 10,000 routes like `*0123*4567*`, and takes 70 ms. Any
        thread may call it.
        """
        values = _values(event)
        return self._plans.get(values) or self._matched(values, self._candidates(values))

    def match_at_once(self, event: Event) -> Plan | None:
        """Return the same within two milliseconds, or None if it may take longer."""
        values = _values(event)
        if (plan := self._plans.get(values)) is not None:
            return plan
        if sum(map(len, values)) > _CHARACTERS or len(found := self._candidates(values)) > _ROUTES:
            return None
        return self._matched(values, found)

    def _candidates(self, values: tuple[str, ...]) -> set[int]:
        """Return the numbers of all routes that can match."""
        return self._index.candidates(dict(zip(FIELDS, values, strict=True)))

    def role_of(self, target: str) -> Role:
        """Return the role of a target, by its name: required if any route requires it."""
        return "required" if target in self._required else "optional"

    def can_match(self, route: Route) -> bool:
        """Return False if the exception surely has every event that the route would match."""
        if not route.exception:
            return True
        own = any(map(_is_own, route.match.get("event_key", ())))
        return (own and "event_key" not in route.exception) or not all(
            self._are_covered(name, route.match.get(name, ("*",)), patterns)
            for name, patterns in route.exception.items()
        )

    def _are_covered(self, name: str, inner: Sequence[str], outer: Sequence[str]) -> bool:
        """Return whether each of some patterns for a field is surely covered by one of others."""
        return len(inner) * len(outer) <= _PAIRS and all(
            any(
                self._globs[wide].covers(Glob(narrow))
                for wide in outer
                if name != "event_key" or _is_own(wide) or not _is_own(narrow)
            )
            for narrow in inner
        )

    def explain(self, event: Event) -> list[RouteMatch]:
        """Explain the result of `match` by every route of the table, by name."""
        values, explained = dict(zip(FIELDS, _values(event), strict=True)), []
        for route in self.routes:
            exception = self._field_matches(route.exception, values) if route.exception else []
            fields = self._field_matches(route.match, values)
            explained.append(RouteMatch(route, fields, exception if _all_fit(exception) else []))
        return explained

    def _matched(self, values: tuple[str, ...], candidates: Iterable[int]) -> Plan:
        by_field = dict(zip(FIELDS, values, strict=True))
        routes = tuple(
            route
            for route in (self.routes[at] for at in sorted(candidates))
            if self._matches(route, by_field)
        )
        required = {name for route in routes for name in route.required}
        optional = {name for route in routes for name in route.optional} - required
        named = [tuple(self.targets[n] for n in sorted(names)) for names in (required, optional)]
        plan = Plan(named[0], named[1], routes)
        if sum(map(len, values)) <= _CHARACTERS and len(routes) <= _ROUTES:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()  # plans in use come back with their next event
            self._plans[values] = plan
        return plan

    def _matches(self, route: Route, values: Mapping[str, str]) -> bool:
        return self._fits(route.match, values) and not (
            route.exception and self._fits(route.exception, values)
        )

    def _fits(self, rule: Mapping[str, Iterable[str]], values: Mapping[str, str]) -> bool:
        if _is_own(values["event_key"]) and "event_key" not in rule:
            return False
        for name, patterns in rule.items():
            if self._first_match(name, patterns, values[name]) is None:
                return False
        return True

    def _first_match(self, name: str, patterns: Iterable[str], value: str) -> str | None:
        is_own = name == "event_key" and _is_own(value)
        for pattern in patterns:
            if (not is_own or _is_own(pattern)) and self._globs[pattern].matches(value):
                return pattern
        return None

    def _field_matches(
        self, rule: Mapping[str, tuple[str, ...]], values: Mapping[str, str]
    ) -> list[FieldMatch]:
        named = {name: rule[name] for name in FIELDS if name in rule}
        if _is_own(values["event_key"]):
            named.setdefault("event_key", ())
        return [
            FieldMatch(
                field=name,
                value=values[name],
                patterns=[*patterns],
                pattern=self._first_match(name, patterns, values[name]),
            )
            for name, patterns in named.items()
        ]

    def _rule(self, match: Mapping[str, Iterable[str]]) -> Rule:
        return [
            [_anchors(name, self._globs[pattern]) for pattern in patterns]
            for name, patterns in match.items()
        ]


def _is_own(text: str) -> bool:
    """Return True for a key of the router's own events, and for a pattern that matches them."""
    return text.startswith(OWN_KEYS)


def _values(event: Event) -> tuple[str, ...]:
    """Return the event's fields in the order of FIELDS."""
    return (
        event.event_source,
        event.event_topic,
        event.event_type,
        event.event_status,
        event.event_key,
    )


def _patterns(routes: Iterable[Route]) -> set[str]:
    rules = (rule for route in routes for rule in (route.match, route.exception))
    return {pattern for rule in rules for patterns in rule.values() for pattern in patterns}


def _anchors(name: str, glob: Glob) -> Way:
    """Return the literals that the field's value must have for the glob to match it."""
    if len(glob.literals) == 1:
        return (Anchor(name, "whole", glob.literals[0]),)
    first, *middle, last = glob.literals
    anchors = [Anchor(name, "start", first), Anchor(name, "end", last)]
    anchors += [Anchor(name, "inside", literal) for literal in middle]
    return tuple(anchor for anchor in anchors if anchor.text)


#: The longest part of a value or a pattern that is compared, in characters.
_COMPARED = 64


def nearest_routes(routes: Iterable[RouteMatch], count: int) -> list[RouteMatch]:
    """Return the `count` routes that do not match but were probably meant, likeliest first."""
    return nlargest(count, (route for route in routes if not route.matched), key=_nearness)


def _nearness(route: RouteMatch) -> float:
    """Return a likeness from 0 to 1."""
    return sum(map(_likeness, route.fields)) / len(route.fields)


def _likeness(field: FieldMatch) -> float:
    if field["pattern"] is not None:
        return 1.0
    value = field["value"][:_COMPARED]
    pairs = (SequenceMatcher(None, pattern[:_COMPARED], value) for pattern in field["patterns"])
    return max((pair.ratio() for pair in pairs), default=0.0)
