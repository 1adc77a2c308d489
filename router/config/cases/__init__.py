"""The tests file of a routes.yaml: events, and the plan that each must lead to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from router.config.cases.shape import CaseSection, CasesFile
from router.config.checks import check_once
from router.config.document import MapNode, Problems, parse_document, shown
from router.config.files import files_of
from router.config.reader import Guesses, Reader, did_you_mean
from router.config.variables import Variables
from router.model.errors import Problem
from router.model.event import FIELDS, Event
from router.routing.table import Role


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
    reader = Reader(problems, _NoVariables({}, None), Problems(name))
    root = parse_document(content, name, problems)
    if isinstance(root, MapNode) and _is_routes_file({key.text for key, _ in root.entries}):
        problems.add(root, "", "is a routes.yaml, and no tests file: --config names that")
        raise problems.stop()
    file = reader.read(CasesFile, root, "", CasesFile.blank())
    for section in file.cases:
        _check(section, problems)
    if problems:
        raise problems.stop()
    return tuple(_case(section, name) for section in file.cases)


def _is_routes_file(keys: set[str]) -> bool:
    return "cases" not in keys and not keys.isdisjoint({"targets", "routes"})


class _NoVariables(Variables):
    """A tests file says what it says, wherever it is read: a `$` is a character like any other."""

    def resolve(self, text: str, *, may_be_secret: bool = False) -> str:
        return text


def _check(section: CaseSection, problems: Problems) -> None:
    """Report what the parts of a case have wrong together."""
    for message in (_event_fault(section), _expectation_fault(section)):
        if message:
            problems.add(section.node, section.path, message)
    required = (("required", target) for target in section.required)
    optional = (("optional", target) for target in section.optional)
    check_once(chain(required, optional), section.path, problems)


def _event_fault(section: CaseSection) -> str | None:
    written = section.nodes.keys() & {"key", "event"}
    if len(written) != 1:
        return "has a key and an event; one of them is meant" if written else "has no key or event"
    fields = section.event.nodes.keys()
    if "event" in written and "event_key" not in fields and not fields >= {*FIELDS[:4]}:
        return "its event needs event_key, or all four other fields"
    return None


def _expectation_fault(section: CaseSection) -> str | None:
    written = section.nodes.keys() & {"required", "optional"}
    if section.unmatched and (written or not section.exact):
        return "is unmatched, so it can't have targets"
    if not section.unmatched and not written:
        return "expects nothing: say required, optional or unmatched: true"
    return None


def _case(section: CaseSection, file: str) -> Case:
    fields = {**section.event.values, **({"event_key": section.key} if section.key else {})}
    event = Event.of(fields)
    named = [
        (key, target)
        for key, targets in (("required", section.required), ("optional", section.optional))
        for target in targets
    ]
    return Case(
        section.name or event.event_key,
        event,
        {target.value: "required" if key == "required" else "optional" for key, target in named},
        section.exact,
        file,
        section.node.line,
        {
            target.value: (f"{section.path}.{key}", target.node.line, target.node.column)
            for key, target in named
        },
    )


def unknown_targets(cases: Iterable[Case], targets: Collection[str]) -> Iterator[Problem]:
    """Warn of each target that a case expects and that is not there: the case can't hold."""
    guesses = Guesses()
    for case in cases:
        for name, (path, line, column) in case.places.items():
            if name not in targets:
                likely = did_you_mean(guesses.likely(name, targets))
                message = f"routes.yaml has no target {shown(name)}{likely}"
                yield Problem(case.file, line, column, path, message)
