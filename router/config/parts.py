"""The files of a configuration as they were read, before they are one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.config.document import (
    MAX_PROBLEMS,
    Guesses,
    Path,
    Problems,
    Scalar,
    Tree,
    parse_document,
    path_of,
    report,
)
from router.config.files import Written
from router.config.schema import Name, Reader
from router.config.variables import Variables
from router.model.errors import ConfigInvalid, Problem

#: Of many files each has so many problems at least before the rest is only counted.
_LEAST = 20

#: Whose a file is that is no YAML.
_OWNER = re.compile(rb"^owner:[ \t]*([^#\n]{1,200}?)[ \t]*(?:#.*)?\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """One file. What is wrong with it, and what is dubious, is in its reader's problems."""

    name: str
    reader: Reader
    #: None where there is none: nothing is known of what the file says.
    tree: Tree | None = None
    #: What could be read of it, by its keys; None stands for what could not.
    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """Whose it is; `""` where it is nobody's or everybody's."""
        return self.said.get("owner") or ""

    @property
    def problems(self) -> Problems:
        return self.reader.problems

    @property
    def warnings(self) -> Problems:
        return self.reader.warnings

    @property
    def target_keys(self) -> Mapping[str, Scalar]:
        """The names of targets and where they are, whatever is wrong with what they stand for."""
        if self.tree is None or "targets" not in self.tree.entries(self.tree.root):
            return {}
        entries = self.tree.entries(self.tree.at(("targets",)))
        return {name: key for name, (key, _) in entries.items()}

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        found = (self.said.get("targets") or {}).items()
        return {name: target for name, target in found if target is not None}

    def routes(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Each route that could be read, and its position in the file."""
        for at, route in enumerate(self.said.get("routes") or ()):
            if route is not None:
                yield at, route

    def line(self, *path: str | int) -> int:
        assert self.tree is not None
        line: int = self.tree.at(path).start_mark.line
        return line + 1

    def place(self, path: Path, at: int) -> tuple[str, int, int]:
        """A list's path, and the line and column of one of its items."""
        assert self.tree is not None
        mark = self.tree.at([*path, at]).start_mark
        return path_of(path), mark.line + 1, mark.column + 1

    def written(self, *path: str | int) -> str:
        """A scalar's text as the file has it: what a variable stands for is not repeated."""
        assert self.tree is not None
        text: str = self.tree.at(path).value
        return text

    def release(self) -> None:
        """Let the nodes of routes go one by one: all at once, those of 10,000 routes hold every
        other thread for 25 ms."""
        if self.tree is not None and "routes" in self.said:
            nodes = self.tree.at(("routes",)).value
            while nodes:
                nodes.pop()

    def report(self, path: Path, message: str, *, at: Path = (), key: bool = False) -> None:
        """Add a problem about what is at `path`; it is in the place of its key, or of what is
        below it at `at`."""
        self._add(self.problems, path, message, at, key)

    def warn(self, path: Path, message: str, *, at: Path = (), key: bool = False) -> None:
        self._add(self.warnings, path, message, at, key)

    def _add(self, problems: Problems, path: Path, message: str, at: Path, key: bool) -> None:
        assert self.tree is not None
        node = self.tree.key(path) if key else self.tree.at([*path, *at])
        report(problems, node, path_of(path), message)


@dataclass(frozen=True, slots=True)
class Parts:
    """All files of one configuration."""

    #: What is everybody's: the only file, or a folder's routes.yaml.
    common: Part
    teams: tuple[Part, ...]

    def __iter__(self) -> Iterator[Part]:
        yield self.common
        yield from self.teams

    def section(self, name: str) -> dict[str, Any]:
        """A section of what is everybody's, with its defaults."""
        shape = self.common.reader.shape.keys[name]
        return shape.filled(self.common.said.get(name) or {})

    def stop(self) -> ConfigInvalid:
        """The error to raise, with all that was found in any of them."""
        return ConfigInvalid([each for part in self for each in part.problems.in_order()])

    def warnings(self) -> tuple[Problem, ...]:
        return tuple(each for part in self for each in part.warnings.in_order())


def read_parts(files: Sequence[Written], variables: Variables) -> Parts:
    most, guesses = max(_LEAST, MAX_PROBLEMS // len(files)), Guesses()
    parts = []
    for file, name in zip(files, formats_of(files), strict=True):
        problems, warnings = Problems(file.name, most), Problems(file.name, most)
        parts.append(_read(file, name, Reader(name, problems, variables, warnings, guesses)))
    common, *teams = parts
    return Parts(common, tuple(teams))


def formats_of(files: Sequence[Written]) -> list[Name]:
    """What each of them is to be: one alone has all there is."""
    if len(files) < 2:
        return ["routes"] * len(files)
    teams: list[Name] = ["routes.team"] * (len(files) - 1)
    return ["routes.common", *teams]


def _read(written: Written, name: Name, reader: Reader) -> Part:
    problems = reader.problems
    try:
        tree = parse_document(written.content, written.name, problems)
    except ConfigInvalid:
        found = _OWNER.search(written.content) if name == "routes.team" else None
        problems.owner = found[1].decode("utf-8", "replace").strip("'\"") if found else ""
        return Part(written.name, reader)
    part = Part(written.name, reader, tree, reader.read(tree))
    problems.owner = reader.warnings.owner = part.owner
    return part
