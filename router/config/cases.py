"""The tests file of a routes.yaml: events with the plans they must lead to, and the differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from router.config.checks import check_once
from router.config.files import Part, Written, files_of, named, readable
from router.config.variables import Variables
from router.model.errors import ConfigInvalid, Problem
from router.model.event import FIELDS, Event
from router.routing.table import Plan, Role, Route, RouteTable


@dataclass(frozen=True, slots=True)
class Case:
    """An event, and the plan that it must lead to."""

    #: The event's key if the file gives no name.
    name: str
    event: Event
    #: The role of each target, by name. Empty: the event must be unmatched.
    expected: Mapping[str, Role]
    #: True if the plan may have no other targets.
    exact: bool
    #: The file's path as it was given, and the case's line in it.
    file: str
    line: int


def beside(config: Path) -> Path:
    """Return the path of a file's tests file: `routes.test.yaml` beside routes.yaml."""
    return config.parent / f"{config.stem}.test{config.suffix}"


def tests_of(config: Path) -> list[Path]:
    """Return the tests files that exist beside a file, or beside each file of a folder.
    Raises ConfigInvalid if the folder is not a configuration."""
    return [tests for file in files_of(config) if (tests := beside(file)).exists()]


def parse_cases(content: bytes, name: str) -> tuple[Case, ...]:
    """Parse the cases of a tests file. Raises ConfigInvalid with every problem."""
    part = Part(Written(name, content, "routes.test"), Variables({}, None))
    keys = part.tree.entries(part.tree.root).keys() if part.tree else set()
    if "cases" not in keys and keys & {"targets", "routes"}:
        message = "is a routes.yaml, not a tests file: give it as --config"
        raise ConfigInvalid([Problem(name, 0, 0, "", message)])
    cases = list(readable(part.values.get("cases")))
    for at, case in cases:
        _check(part, at, case)
    if part.problems:
        raise part.problems.stop()
    return tuple(_case(part, at, case) for at, case in cases)


def _check(part: Part, at: int, case: Mapping[str, Any]) -> None:
    """Report contradictions between the keys of a case."""
    path, unmatched = ("cases", at), case.get("unmatched")
    given, roles = case.keys() & {"key", "event"}, case.keys() & {"required", "optional"}
    fields = (case.get("event") or {}).keys()
    if len(given) == 2:
        part.report(path, "has a key and an event; one of them is meant")
    elif not given:
        part.report(path, "has no key or event")
    elif "event" in given and "event_key" not in fields and not fields >= {*FIELDS[:4]}:
        part.report(path, "its event needs event_key, or all four other fields")
    if unmatched and (roles or case.get("exact") is False):
        part.report(path, "is unmatched, so it can't have targets")
    elif not unmatched and not roles:
        part.report(path, "expects nothing: say required, optional or unmatched: true")
    check_once(part, path, case)


def _case(part: Part, at: int, values: Mapping[str, Any]) -> Case:
    event = Event.of(values.get("event") or {"event_key": values["key"]})
    expected: dict[str, Role] = {
        target: "required" if key == "required" else "optional" for key, _, target in named(values)
    }
    name = values.get("name") or event.event_key
    line = part.line("cases", at)
    return Case(name, event, expected, values.get("exact", True), part.name, line)


def unknown_targets(cases: Iterable[Case], targets: Iterable[str]) -> list[Problem]:
    """Warn of each target that a case expects and routes.yaml does not have."""
    return [
        Problem(case.file, case.line, 0, "", f"{case.name}: routes.yaml has no target {name!r}")
        for case in cases
        for name in sorted(case.expected.keys() - set(targets))
    ]


class Difference(NamedTuple):
    """A target whose role in a plan is not as expected; None: it is not in the plan."""

    target: str
    expected: Role | None
    actual: Role | None
    #: The matching routes that give it its role.
    routes: tuple[Route, ...]


class Verdict(NamedTuple):
    """The result of one case, which holds if nothing differs."""

    case: Case
    plan: Plan
    #: By target.
    differences: tuple[Difference, ...]


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


def uncovered(table: RouteTable, verdicts: Iterable[Verdict]) -> list[Route]:
    """Return the routes that match the event of no case, in the file's order."""
    matched = {route.name for verdict in verdicts for route in verdict.plan.routes}
    return [route for route in table.routes_as_written if route.name not in matched]
