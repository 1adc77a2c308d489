"""The files of a configuration: one file, or a folder's routes.yaml with the teams' files below its
routes.d. They are read and parsed here, and joined by `loading`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router.config.document import (
    MAX_PROBLEMS,
    MAX_SIZE,
    Guesses,
    Node,
    Problems,
    Steps,
    Tree,
    parse_document,
    path_of,
)
from router.config.schema import Name, Reader
from router.config.settings import SETTINGS
from router.config.variables import Variables
from router.model.errors import ConfigInvalid, Problem, why_not

#: In a folder: the common file, and the folder of the teams' files.
COMMON, TEAMS = "routes.yaml", "routes.d"

#: The most files that a folder may have.
MAX_FILES = 1_000

_SUFFIXES = (".yaml", ".yml")


class Written(NamedTuple):
    """A file's contents."""

    #: Its path, relative as it was given.
    name: str
    content: bytes


def read(path: Path) -> tuple[Written, ...]:
    """Read the file or the folder. A file may come with a byte more than `parse_files` allows; the
    files of a folder together have no more than one file may have. Raises ConfigInvalid."""
    files: list[Written] = []
    left = MAX_SIZE
    for file in files_of(path):
        files.append(Written(str(file), read_file(file)))
        left -= len(files[-1].content)
        if left < 0 and len(files) > 1:
            raise _unreadable(path, f"is larger than {MAX_SIZE // 2**20} MiB, all files together")
    return tuple(files)


def files_of(path: Path) -> list[Path]:
    """Return the file, or the files of the folder: routes.yaml first, then those in routes.d and in
    its folders, by name. Tests files are left out, and names that begin with a dot, which kubelet
    and editors use. Raises ConfigInvalid."""
    try:
        if not path.is_dir():
            return [path]
        if not (path / COMMON).exists():
            raise _unreadable(path, f"is a folder without a {COMMON}")
        files = [path / COMMON, *sorted(_below(path / TEAMS))]
    except OSError as error:
        failed = Path(error.filename or path)
        raise _unreadable(failed, f"can't be read: {why_not(failed, error)}") from None
    if len(files) > MAX_FILES:
        raise _unreadable(path, f"has more than {MAX_FILES:,} files")
    return files


def _below(folder: Path) -> Iterator[Path]:
    """Go one folder deep, so that links in a circle do no harm."""
    for path in _entries(folder) if folder.exists() else ():
        for file in _entries(path) if path.is_dir() else [path]:
            if file.suffix in _SUFFIXES and not file.stem.endswith(".test"):
                yield file


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def read_file(path: Path) -> bytes:
    """Return a file's bytes, at most one more than it may have. Raises ConfigInvalid."""
    try:
        # A pipe or a device might never end.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _unreadable(path, "is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_SIZE + 1)
    except OSError as error:
        why = f"can't be read: {why_not(path, error)}"
        if str(path) == SETTINGS["config"].default:
            why += (
                "; it is looked for below the working folder, unless --config names another; "
                "`ebaas-router init` writes a first one"
            )
        raise _unreadable(path, why) from None
    except ValueError:
        raise _unreadable(path, "is not a file's name") from None


def _unreadable(path: Path, message: str) -> ConfigInvalid:
    return ConfigInvalid([Problem(str(path), 0, 0, "", message)])


# Parsed.

#: Of many files each lists at least so many problems before it only counts them.
_LEAST = 20

#: Finds the owner of a file that is not YAML.
_OWNER = re.compile(rb"^owner:[ \t]*([^#\n]{1,200}?)[ \t]*(?:#.*)?\r?$", re.MULTILINE)


def readable(items: Sequence[Any] | None) -> Iterator[tuple[int, Any]]:
    """Iterate over the items of a list that could be read, with their positions."""
    return ((at, item) for at, item in enumerate(items or ()) if item is not None)


class Part:
    """One file, right or wrong."""

    def __init__(
        self,
        written: Written,
        format: Name,
        variables: Variables,
        guesses: Guesses | None = None,
        most: int = MAX_PROBLEMS,
    ) -> None:
        """At most so many problems and so many warnings are kept."""
        self.name = written.name
        self.problems, self.warnings = Problems(self.name, most), Problems(self.name, most)
        self.reader = Reader(format, self.problems, variables, self.warnings, guesses)
        #: None if the file is not YAML: its contents are unknown.
        self.tree: Tree | None = None
        #: The values by their keys; None stands for a value that could not be read.
        self.values: Mapping[str, Any] = {}
        #: The owner of the file; `""` if it has none.
        self.owner = ""
        try:
            self.tree = parse_document(written.content, self.name, self.problems)
        except ConfigInvalid:
            owner = _OWNER.search(written.content) if format == "routes.team" else None
            self.owner = owner[1].decode("utf-8", "replace").strip("'\"") if owner else ""
        else:
            self.values = self.reader.read(self.tree)
            self.owner = self.values.get("owner") or ""
        self.problems.owner = self.warnings.owner = self.owner

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """The targets that could be read."""
        targets = (self.values.get("targets") or {}).items()
        return {name: target for name, target in targets if target is not None}

    def routes(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Iterate over the routes that could be read, with their positions."""
        return readable(self.values.get("routes"))

    def line(self, *path: str | int) -> int:
        assert self.tree is not None
        return int(self.tree.at(path).start_mark.line) + 1

    def written(self, *path: str | int) -> str:
        """Return a scalar's text as the file has it, with the variables in it."""
        assert self.tree is not None
        text: str = self.tree.at(path).value
        return text

    def release(self) -> None:
        """Release the nodes of routes one by one: all at once, those of 10,000 routes hold every
        other thread for 25 ms."""
        if self.tree is not None and "routes" in self.values:
            nodes = self.tree.at(("routes",)).value
            while nodes:
                nodes.pop()

    def report(self, path: Steps, message: str, *, at: Steps = (), key: bool = False) -> None:
        """Add a problem about the value at `path`. With `key` it is placed at the value's key, with
        `at` at a part of the value."""
        self.problems.report(self._node(path, at, key), path_of(path), message)

    def warn(self, path: Steps, message: str, *, at: Steps = (), key: bool = False) -> None:
        self.warnings.report(self._node(path, at, key), path_of(path), message)

    def _node(self, path: Steps, at: Steps, key: bool) -> Node:
        assert self.tree is not None
        return self.tree.key(path) if key else self.tree.at([*path, *at])


class Parts:
    """All files of one configuration."""

    def __init__(self, files: Sequence[Written], variables: Variables) -> None:
        most, guesses = max(_LEAST, MAX_PROBLEMS // len(files)), Guesses()
        #: A file alone, which has all keys, or a folder's routes.yaml.
        first: Name = "routes" if len(files) == 1 else "routes.common"
        self.common = Part(files[0], first, variables, guesses, most)
        self.teams = [Part(file, "routes.team", variables, guesses, most) for file in files[1:]]

    def __iter__(self) -> Iterator[Part]:
        yield self.common
        yield from self.teams

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of the common file, with its defaults."""
        shape = self.common.reader.shape.keys[name]
        return shape.filled(self.common.values.get(name) or {})

    def stop(self) -> ConfigInvalid:
        """Return the error to raise, with the problems of all files."""
        return ConfigInvalid([one for part in self for one in part.problems.in_order()])
