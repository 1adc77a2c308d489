"""The files of a configuration: one file, or a folder's routes.yaml with the teams' files below its
routes.d. They are read and parsed here, chosen by `fitting`, and joined by `loading`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from router.config.document import (
    MAX_PROBLEMS,
    MAX_SIZE,
    Guesses,
    Node,
    Problems,
    Steps,
    Tree,
    parse_document,
)
from router.config.schema import Name, Reader
from router.config.settings import SETTINGS
from router.config.values import literal
from router.config.variables import Variables
from router.model.errors import ConfigInvalid, Problem, why_not
from router.net.egress import Egress, Network

#: In a folder: the common file, and the folder of the teams' files.
COMMON, TEAMS = "routes.yaml", "routes.d"

#: The most files that a folder may have.
MAX_FILES = 1_000

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Written:
    """A file's text."""

    #: Its path, relative as it was given.
    name: str
    content: bytes = field(repr=False)
    #: Its keys: a file alone has all, in a folder they are divided.
    format: Name = "routes"
    #: The values of its variables while it is in force; None: they are looked up.
    values: Mapping[str, str] | None = field(default=None, repr=False)
    #: The owner that it names, once it is parsed.
    owner: str = ""
    #: Why it cannot be read.
    problems: tuple[Problem, ...] = ()


def read(path: Path) -> tuple[Written, ...]:
    """Read the file or the folder. A file may come with a byte more than `load_files` allows; the
    files of a folder together have no more than one file may have. A team's file that cannot be
    read comes with its problem. Raises ConfigInvalid."""
    files: list[Written] = []
    left = MAX_SIZE
    for file in files_of(path):
        format: Name = "routes.team" if files else "routes" if file == path else "routes.common"
        try:
            files.append(Written(str(file), read_file(file), format))
        except ConfigInvalid as error:
            if not files:
                raise
            files.append(Written(str(file), b"", format, problems=error.problems))
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

#: Finds the owner of a file that is not YAML.
_OWNER = re.compile(rb"^owner:[ \t]*([^#\n]{1,200}?)[ \t]*(?:#.*)?\r?$", re.MULTILINE)


def readable(items: Sequence[Any] | None) -> Iterator[tuple[int, Any]]:
    """Iterate over the items of a list that could be read, with their positions."""
    return ((at, item) for at, item in enumerate(items or ()) if item is not None)


def named(route: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Iterate over the targets that a route names: the key, the position, the name."""
    for key in ("required", "optional"):
        for at, name in enumerate(route.get(key) or ()):
            if name is not None:
                yield key, at, name


def owner_in(content: bytes) -> str:
    """Return the owner that a text names, even if it is not YAML; `""` for none."""
    owner = _OWNER.search(content)
    return owner[1].decode("utf-8", "replace").strip("'\"") if owner else ""


#: A name in a file: of a target or a route that it defines, or of a target that a route of it uses.
Link = tuple[Literal["target", "route", "use"], str]


class Part:
    """One file, right or wrong."""

    def __init__(
        self,
        written: Written,
        variables: Variables,
        guesses: Guesses | None = None,
        most: int = MAX_PROBLEMS,
    ) -> None:
        """At most so many problems and so many warnings are kept."""
        self.name = written.name
        #: Sort key: routes.yaml, then the files of teams by path.
        self.order = written.format == "routes.team", Path(self.name)
        self.is_common = written.format != "routes.team"
        self.problems, self.warnings = Problems(self.name, most), Problems(self.name, most)
        variables = variables.of_file(written.values)
        self.reader = Reader(written.format, self.problems, variables, self.warnings, guesses)
        #: None if the file is not YAML: its contents are unknown.
        self.tree: Tree | None = None
        #: The values by their keys; None stands for a value that could not be read.
        self.values: Mapping[str, Any] = {}
        #: The owner of the file; `""` if it has none.
        self.owner = ""
        for problem in written.problems:
            self.problems.add(problem.message)
        with suppress(ConfigInvalid):
            if not written.problems:
                self.tree = parse_document(written.content, self.name, self.problems)
                self.values = self.reader.read(self.tree)
                self.owner = self.values.get("owner") or ""
        if self.tree is None and not self.is_common:
            self.owner = owner_in(written.content)
        self.problems.owner = self.warnings.owner = self.owner
        #: The text with the values of its variables.
        self.written = replace(written, values=variables.values, owner=self.owner)

    def has(self, file: Written) -> bool:
        """Return whether it is this text, with the values that the text has in force."""
        mine = self.written
        text = mine.content, mine.format, mine.problems
        same = text == (file.content, file.format, file.problems)
        return same and file.values in (None, mine.values)

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """The targets that could be read."""
        targets = (self.values.get("targets") or {}).items()
        return {name: target for name, target in targets if target is not None}

    def routes(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Iterate over the routes that could be read, with their positions."""
        return readable(self.values.get("routes"))

    @cached_property
    def links(self) -> frozenset[Link]:
        """The names that other files may depend on or collide with. A target's name counts even if
        the target could not be read."""
        links: set[Link] = {("target", name) for name in self.values.get("targets") or ()}
        for _, route in self.routes():
            links.update(("use", name) for _, _, name in named(route))
            if route.get("name"):
                links.add(("route", route["name"]))
        return frozenset(links)

    @property
    def hides_targets(self) -> bool:
        """True if the file is so wrong that nobody knows which targets it was meant to have."""
        return bool(self.problems) and not self.values.get("targets")

    @cached_property
    def egress(self) -> Egress:
        places = self.values.get("egress") or ()
        networks = tuple(place for place in places if isinstance(place, Network))
        return Egress("public" in places, networks)

    @cached_property
    def addresses(self) -> Mapping[str, tuple[str, str, IPv4Address | IPv6Address]]:
        """The URL, host and address of each target whose host is an address; names are looked up
        later."""
        addresses = {}
        for name, target in self.targets.items():
            url = target.get("url") or ""
            host = (urlsplit(url).hostname or "").rstrip(".")
            if (address := literal(host)) is not None:
                addresses[name] = url, host, address
        return addresses

    def section(self, name: str) -> dict[str, Any]:
        """Return a section with its defaults."""
        return self.reader.shape.keys[name].filled(self.values.get(name) or {})

    def line(self, *path: str | int) -> int:
        assert self.tree is not None
        return int(self.tree.at(path).start_mark.line) + 1

    def text(self, *path: str | int) -> str:
        """Return a scalar as the file has it, with the variables in it."""
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
        `at` at a part of the value. An empty path is the file as a whole."""
        if path:
            self.problems.report(self._node(path, at, key), path, message)
        else:
            self.problems.add(message)

    def warn(self, path: Steps, message: str, *, at: Steps = (), key: bool = False) -> None:
        self.warnings.report(self._node(path, at, key), path, message)

    def _node(self, path: Steps, at: Steps, key: bool) -> Node:
        assert self.tree is not None
        return self.tree.key(path) if key else self.tree.at([*path, *at])
