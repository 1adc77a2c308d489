"""The tests file of a routes.yaml: events, the plan that each must lead to, and what each got
instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from router.config.checks import check_once, named
from router.config.document import Guesses, Problems, did_you_mean, parse_document, shown
from router.config.files import files_of
from router.config.parts import Part
from router.config.schema import Reader
from router.config.variables import Variables
from router.model.errors import Problem
from router.model.event import FIELDS, Event
from router.routing.index import Glob, GlobInvalid
from router.routing.table import Plan, Role, Route, RouteTable


@dataclass(frozen=True, slots=True)
class Case:
    """An event, and what its plan must be."""

    #: What it is about; its key where the file does not say.
    name: str
    event: Event
    #: What each target has to be, by name. None at all: the event is unmatched.
    expected: Mapping[str, Role]
    #: Whether the plan may have no other targets.
    exact: bool
    #: The file's path as it was given, and where in it the case begins.
    file: str
    line: int
    #: By target, where it is named: the path in the document, the line and the column.
    places: Mapping[str, tuple[str, int, int]] = field(default_factory=dict, compare=False)


def beside(config: Path) -> Path:
    """Where the tests file of a configuration's file is: `routes.test.yaml` beside routes.yaml."""
    return config.parent / f"{config.stem}.test{config.suffix}"


def tests_of(config: Path) -> list[Path]:
    """The tests files that are there: beside a configuration's file, or each of a folder's.
    Raises ConfigInvalid where the folder is no configuration."""
    return [found for each in files_of(config) if (found := beside(each)).exists()]


def parse_cases(content: bytes, name: str) -> tuple[Case, ...]:
    """The cases in a tests file, in its order. Raises ConfigInvalid with every problem there is."""
    problems = Problems(name)
    reader = Reader("routes.test", problems, _NoVariables({}, None), Problems(name))
    tree = parse_document(content, name, problems)
    keys = tree.entries(tree.root).keys()
    if "cases" not in keys and keys & {"targets", "routes"}:
        part = Part(name, reader, tree)
        part.report((), "is a routes.yaml, and no tests file: --config names that")
        raise problems.stop()
    part = Part(name, reader, tree, reader.read(tree))
    cases = [(at, case) for at, case in enumerate(part.said.get("cases") or ()) if case is not None]
    for at, case in cases:
        _check(part, at, case)
    if problems:
        raise problems.stop()
    return tuple(_case(part, at, case) for at, case in cases)


class _NoVariables(Variables):
    """A tests file says what it says, wherever it is read: a `$` is a character like any other."""

    def resolve(self, text: str, *, may_be_secret: bool = False) -> str:
        return text


def _check(part: Part, at: int, case: Mapping[str, Any]) -> None:
    """Report what the parts of a case have wrong together."""
    for message in (_event_fault(case), _expectation_fault(case)):
        if message:
            part.report(("cases", at), message)
    check_once(part, ("cases", at), case)


def _event_fault(case: Mapping[str, Any]) -> str | None:
    written = case.keys() & {"key", "event"}
    if len(written) != 1:
        return "has a key and an event; one of them is meant" if written else "has no key or event"
    fields = (case.get("event") or {}).keys()
    if "event" in written and "event_key" not in fields and not fields >= {*FIELDS[:4]}:
        return "its event needs event_key, or all four other fields"
    return None


def _expectation_fault(case: Mapping[str, Any]) -> str | None:
    written = case.keys() & {"required", "optional"}
    if case.get("unmatched") and (written or case.get("exact") is False):
        return "is unmatched, so it can't have targets"
    if not case.get("unmatched") and not written:
        return "expects nothing: say required, optional or unmatched: true"
    return None


def _case(part: Part, at: int, said: Mapping[str, Any]) -> Case:
    event = Event.of(said.get("event") or {"event_key": said["key"]})
    expected: dict[str, Role] = {}
    places: dict[str, tuple[str, int, int]] = {}
    for key, position, name in named(said):
        role: Role = "required" if key == "required" else "optional"
        expected[name] = role
        places[name] = part.place(("cases", at, key), position)
    name = said.get("name") or event.event_key
    line = part.line("cases", at)
    return Case(name, event, expected, said.get("exact", True), part.name, line, places)


def unknown_targets(cases: Iterable[Case], targets: Collection[str]) -> Iterator[Problem]:
    """Warn of each target that a case expects and that is not there: the case can't hold."""
    guesses = Guesses()
    for case in cases:
        for name, (path, line, column) in case.places.items():
            if name not in targets:
                likely = did_you_mean(guesses.likely(name, targets))
                message = f"routes.yaml has no target {shown(name)}{likely}"
                yield Problem(case.file, line, column, path, message)


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
        blind = self._folded.match(event.replace(**lower))
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
