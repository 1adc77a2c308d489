"""The files of a configuration as they were read, before they are one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from router.config.document import (
    MAX_PROBLEMS,
    MapNode,
    Problems,
    ScalarNode,
    Shown,
    lines,
    parse_document,
)
from router.config.files import Written
from router.config.reader import Guesses, Kind, Reader
from router.config.section import Section
from router.config.shape import CommonFile, RoutesFile, TeamFile
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
    said: RoutesFile | TeamFile
    reader: Reader
    #: Whether there is a tree; else nothing is known of what it says.
    is_whole: bool

    @property
    def owner(self) -> str:
        """Whose it is; `""` where it is nobody's or everybody's."""
        return self.said.owner if isinstance(self.said, TeamFile) else ""

    @property
    def problems(self) -> Problems:
        return self.reader.problems

    @property
    def warnings(self) -> Problems:
        return self.reader.warnings

    @property
    def targets(self) -> Iterator[ScalarNode]:
        """The names of targets, whatever is wrong with what they stand for."""
        targets = self.said.nodes.get("targets")
        yield from (key for key, _ in targets.entries) if isinstance(targets, MapNode) else ()


@dataclass(frozen=True, slots=True)
class Parts:
    """All files of one configuration."""

    #: What is everybody's: the only file, or a folder's routes.yaml.
    common: Part
    teams: tuple[Part, ...]

    def __iter__(self) -> Iterator[Part]:
        yield self.common
        yield from self.teams

    @property
    def file(self) -> RoutesFile:
        assert isinstance(self.common.said, RoutesFile)
        return self.common.said

    def stop(self) -> ConfigInvalid:
        """The error to raise, with all that was found in any of them."""
        return ConfigInvalid([each for part in self for each in part.problems.in_order()])

    def warnings(self) -> tuple[Problem, ...]:
        return tuple(each for part in self for each in part.warnings.in_order())


def read_parts(files: Sequence[Written], variables: Variables) -> Parts:
    most, guesses = max(_LEAST, MAX_PROBLEMS // len(files)), Guesses()
    parts = []
    for file, shape in zip(files, shapes_of(files), strict=True):
        problems, warnings = Problems(file.name, most), Problems(file.name, most)
        reader = Reader(problems, variables, warnings, guesses)
        parts.append(_read(file, shape, reader))
    common, *teams = parts
    return Parts(common, tuple(teams))


def shapes_of(files: Sequence[Written]) -> list[type[RoutesFile] | type[TeamFile]]:
    """What each of them is to be: one alone has all there is."""
    if len(files) < 2:
        return [RoutesFile] * len(files)
    return [CommonFile, *[TeamFile] * (len(files) - 1)]


def _read(written: Written, shape: type[RoutesFile] | type[TeamFile], reader: Reader) -> Part:
    problems = reader.problems
    try:
        root = parse_document(written.content, written.name, problems)
    except ConfigInvalid:
        found = _OWNER.search(written.content) if shape is TeamFile else None
        problems.owner = found[1].decode("utf-8", "replace").strip("'\"") if found else ""
        return Part(written.name, shape.blank(), reader, is_whole=False)
    kind: Kind[RoutesFile | TeamFile] = shape
    said = reader.read(kind, root, "", shape.blank())
    part = Part(written.name, said, reader, is_whole=True)
    problems.owner = reader.warnings.owner = part.owner
    return part


def legible_source(content: bytes, shape: type[Section]) -> Shown:
    """A file that is to be a `shape`, right or wrong: read once more, for what its kinds say."""
    ignored = Problems("")
    root = None
    try:
        root = parse_document(content, "", ignored)
        Reader(ignored, Variables({}, None), ignored).read(shape, root, "", None)
    except ConfigInvalid:
        pass  # no tree: nothing is known but the format's own words
    return Shown(lines(content), Section.words, root)
