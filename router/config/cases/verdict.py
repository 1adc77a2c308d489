"""Cases run against a table: what each got instead of what it expects, and what none has tried."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from router.config.cases import Case
from router.model.event import FIELDS, Event
from router.routing.index import Glob, GlobInvalid
from router.routing.table import Plan, Role, Route, RouteTable


@dataclass(frozen=True, slots=True)
class Difference:
    """A target that is not to a plan what it should be."""

    target: str
    #: None: it must not be in the plan, or isn't.
    expected: Role | None
    actual: Role | None
    #: The matching routes that give it what it is.
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one case went."""

    case: Case
    plan: Plan
    #: By target; none where the case holds.
    differences: tuple[Difference, ...]

    @property
    def holds(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which of a table's routes the events of some cases match."""

    total: int
    #: Those that none matches, in the file's order.
    missed: tuple[Route, ...]

    @property
    def percent(self) -> float:
        return 100.0 * (self.total - len(self.missed)) / self.total if self.total else 100.0


def judge(case: Case, table: RouteTable) -> Verdict:
    """Match the case's event as the router does, and compare."""
    plan = table.match(case.event)
    actual = plan.roles
    names = case.expected.keys() | (actual.keys() if case.exact else ())
    differences = (
        Difference(name, case.expected.get(name), actual.get(name), plan.giving(name))
        for name in sorted(names)
        if case.expected.get(name) != actual.get(name)
    )
    return Verdict(case, plan, tuple(differences))


def coverage(table: RouteTable, verdicts: Iterable[Verdict]) -> Coverage:
    matched = {route.name for verdict in verdicts for route in verdict.plan.routes}
    missed = [route for route in table.routes_as_written if route.name not in matched]
    return Coverage(len(table.routes), tuple(missed))


class CaseBlind:
    """A table to which upper and lower case are one: what a pattern may have been meant for."""

    def __init__(self, table: RouteTable) -> None:
        self._given = table
        self._routes = {route.name: route for route in table.routes}

    @cached_property
    def _folded(self) -> RouteTable:
        """Made for the first who asks: of a hundred thousand patterns it takes seconds."""
        folded = [each for route in self._given.routes if (each := _folded(route)) is not None]
        return RouteTable(folded, self._given.targets)

    def missed(self, event: Event, plan: Plan) -> list[Route]:
        """The routes that are not in the event's plan for upper and lower case alone."""
        there = {route.name for route in plan.routes}
        lower = {name: getattr(event, name).lower() for name in FIELDS}
        blind = self._folded.match(event.but(**lower))
        return [self._routes[route.name] for route in blind.routes if route.name not in there]


def _folded(route: Route) -> Route | None:
    """None for one that has a set which means nothing in lower case."""
    match = {field: tuple(map(str.lower, patterns)) for field, patterns in route.match.items()}
    try:
        for pattern in {pattern for patterns in match.values() for pattern in patterns}:
            Glob(pattern)
    except GlobInvalid:
        return None
    return replace(route, match=match)
