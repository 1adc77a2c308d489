"""Parses YAML strictly, with positions: bytes to a tree of nodes, or to problems.

This file and `syntax` are the only users of PyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from math import inf
from typing import Any, NoReturn

import yaml
from yaml.resolver import Resolver

from router.config.syntax import WHOLE_FILE, Spot, explain, hint, spot_of
from router.model.errors import ConfigInvalid, Problem

Node = yaml.Node
Scalar = yaml.ScalarNode
ListNode = yaml.SequenceNode
MapNode = yaml.MappingNode

#: The keys and positions that lead to a node from the root.
Steps = Sequence[str | int]

#: The largest text, in bytes. 100,000 routes take about 10 MB.
MAX_SIZE = 32 * 1024 * 1024

#: The most nodes that a text may have. 100,000 routes have about 1.2 million.
MAX_NODES = 3_000_000

#: The deepest nesting of lists and mappings. A pattern in a route's list is in the fifth.
MAX_DEPTH = 20

#: The most problems that are kept of one file; further ones are counted.
MAX_PROBLEMS = 1_000

#: The most that a problem repeats of the file's text, in characters.
MAX_SHOWN = 64

#: The most characters that may be compared to guess names. Each costs up to 2 µs.
MAX_COMPARED = 500_000


# Problems.


def shown(text: str) -> str:
    """Quote a text for a problem: on one line, cut off if it is long."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)
    return f"'{escaped}'"


def did_you_mean(name: str | None) -> str:
    return f", did you mean {shown(name)}?" if name else ""


class Guesses:
    """Guesses the name that was meant, up to `MAX_COMPARED` for all files of a configuration."""

    def __init__(self) -> None:
        self._compared = 0

    def likely(self, word: str, names: Collection[str]) -> str | None:
        self._compared += len(names) * len(word)
        if self._compared > MAX_COMPARED:
            return None
        near = [name for name in names if abs(len(name) - len(word)) <= 5]
        return next(iter(get_close_matches(word, near, n=1)), None)


class Problems:
    """The problems of one file. The same message at the same place is kept once. Past `most`
    problems are only counted, so that a report has an end."""

    def __init__(self, file: str, most: int = MAX_PROBLEMS) -> None:
        self.file = file
        self._most = most
        #: The owner of the file, once it has been read.
        self.owner = ""
        self._kept: dict[tuple[int, int, str], Problem] = {}
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(
        self, message: str, spot: Spot = WHOLE_FILE, path: Steps = (), *, once: bool = False
    ) -> None:
        """Add a problem; with `once`, only the first place in the file keeps the message."""
        key = (0, 0, message) if once else (*spot, message)
        if key in self._kept or len(self._kept) < self._most:
            problem = Problem(self.file, *spot, path_of(path), message)
            self._kept[key] = min(self._kept.get(key, problem), problem)
        else:
            self._more += 1

    def report(self, node: Node, path: Steps, message: str, *, once: bool = False) -> None:
        """Add a problem at a node, with a hint if it has a character that only looks right."""
        message += hint(node.value) if is_plain(node) else ""
        self.add(message, spot_of(node.start_mark), path, once=once)

    def in_order(self) -> tuple[Problem, ...]:
        """Return the problems by place, after one that counts the rest."""
        noun = "problem" if self._more == 1 else "problems"
        more = f"has {self._more} more {noun} than are listed here"
        counted = [Problem(self.file, *WHOLE_FILE, "", more)] if self._more else []
        return tuple(
            replace(one, owner=self.owner) for one in sorted([*counted, *self._kept.values()])
        )

    def stop(self) -> ConfigInvalid:
        """Return the error to raise, with all problems."""
        return ConfigInvalid(self.in_order())


# Nodes.


class Tree:
    """A document's nodes by their paths."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._entries: dict[int, dict[str, tuple[Scalar, Node]]] = {}

    def entries(self, node: Node) -> dict[str, tuple[Scalar, Node]]:
        """Return the keys and values of a mapping; nothing for any other node."""
        if not isinstance(node, MapNode):
            return {}
        if id(node) not in self._entries:
            self._entries[id(node)] = {key.value: (key, value) for key, value in node.value}
        return self._entries[id(node)]

    def at(self, path: Steps) -> Node:
        node = self.root
        for step in path:
            node = node.value[step] if isinstance(step, int) else self.entries(node)[step][1]
        return node

    def key(self, path: Steps) -> Scalar:
        return self.entries(self.at(path[:-1]))[str(path[-1])][0]


def path_of(path: Steps) -> str:
    """Format a path, such as `routes[2].required`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{shown(step)[1:-1]}" for step in path)
    return "".join(steps).removeprefix(".")


def is_plain(node: Node) -> bool:
    """True if a scalar was written without quotes, so that YAML may take it for another type."""
    return isinstance(node, Scalar) and not node.style


#: PyYAML's own resolver, which knows the types of YAML 1.1.
_RESOLVER = Resolver()
_NAMES = {
    "null": "nothing",
    "bool": "a boolean",
    "timestamp": "a date",
    "int": "a number",
    "float": "a number",
    "merge": "a mark of its own",
    "value": "a mark of its own",
}
#: The numbers that only YAML 1.2 has, which editors go by.
_NUMBER = re.compile(r"[-+]?(0o[0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")


def what(node: Node) -> str:
    """Return the type that YAML reads: `a string`, unless the node is plain and looks like
    another type."""
    if not isinstance(node, Scalar):
        return "a list" if isinstance(node, ListNode) else "a mapping"
    return "a string" if node.style else _read_as(node.value)


def _read_as(text: str) -> str:
    """Return the type that YAML 1.1 or 1.2 gives to a text without quotes."""
    if _NUMBER.fullmatch(text):
        return "a number"
    tag: str = _RESOLVER.resolve(Scalar, text, (True, False))  # type: ignore[no-untyped-call]
    return _NAMES.get(tag.rpartition(":")[2], "a string")


# Parsing.

_LINE_END = re.compile(r"\r\n?|\n")

#: The characters that YAML does not allow, and the line ends that only YAML knows.
_REFUSED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

#: The tags of nodes without a written tag.
_PLAIN, _QUOTED = "plain", "quoted"


class _TooMany(Exception):
    """The text has more than MAX_NODES nodes."""


class Loader(yaml.CSafeLoader):
    """libyaml's parser, which is twenty times faster than Python's. It resolves no types: a node
    keeps its text as it was written."""

    _nodes = 0

    def resolve(self, kind: type[Node], _value: Any, implicit: Any) -> str:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooMany
        return _QUOTED if kind is Scalar and not implicit[0] else _PLAIN


def parse_document(content: bytes, file: str, problems: Problems | None = None) -> Tree:
    """Parse the one document of a file; `file` is its name in problems.

    Raises ConfigInvalid. Faults that leave the tree whole (a key twice, a tag) are added to
    `problems` if given, so that a loader can report them together with its own.
    """
    collected = Problems(file) if problems is None else problems
    root = _compose(_decoded(content, collected), collected)
    walk = _Walk(collected)
    walk.check(root, root.start_mark)
    if walk.has_aliases or (collected and problems is None):
        raise collected.stop()
    return Tree(root)


def _decoded(content: bytes, problems: Problems) -> str:
    """Return the text, without a byte order mark. Raises ConfigInvalid with every character that is
    not allowed."""
    if len(content) > MAX_SIZE:
        problems.add(f"is larger than {MAX_SIZE // 2**20} MiB")
        raise problems.stop()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _report_encoding(error, problems)
        raise problems.stop() from None
    if "\t" in text or _REFUSED.search(text):
        for number, line in enumerate(_LINE_END.split(text), 1):
            for match in _REFUSED.finditer(line):
                character = f"the character U+{ord(match[0]):04X} is not allowed"
                problems.add(character, Spot(number, match.start() + 1))
            # In a comment a tab is allowed.
            if (tab := line.partition("#")[0].find("\t")) >= 0:
                problems.add("a tab: use spaces", Spot(number, tab + 1))
    if problems:
        raise problems.stop()
    return text


def _report_encoding(error: UnicodeDecodeError, problems: Problems) -> None:
    content = error.object  # without a byte order mark
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.add("is UTF-16: save it as UTF-8")
        return
    before = _LINE_END.split(content[: error.start].decode())
    message = f"the byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
    problems.add(message, Spot(len(before), len(before[-1]) + 1))


def _compose(text: str, problems: Problems) -> Node:
    # libyaml takes a missing line end for one more line.
    text = text if text.endswith("\n") else f"{text}\n"
    spot, message = WHOLE_FILE, "is empty"
    try:
        root: Node | None = yaml.compose(text, Loader=Loader)
        if root is not None and not (is_plain(root) and not root.value):
            return root
    except yaml.MarkedYAMLError as error:
        spot, message = explain(error, text)
    except _TooMany:
        message = f"has more than {MAX_NODES} values"
    except RecursionError:
        message = "is nested too deep"
    except (yaml.YAMLError, ValueError):  # without a mark
        message = "is not valid YAML"
    problems.add(message, spot)
    raise problems.stop()


class _Walk:
    """A walk through the nodes that reports parts of YAML which a configuration does not have.

    No problem names an anchor or a key that is a mistake, such as `b` in `{token: a,b}`: either
    may be a part of a secret.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._seen: set[int] = set()
        self._path: list[str | int] = []
        self.has_aliases = False

    def check(self, node: Node, holder: Any) -> None:
        """Check a node and all below. `holder` is the mark of the key or list that has it: an
        alias has no mark of its own."""
        if id(node) in self._seen:
            self.has_aliases = True
            message = "an alias (*…) is not allowed: write the value itself"
            self._problems.add(message, spot_of(holder), self._path)
            return
        self._seen.add(id(node))
        if node.tag != (_QUOTED if isinstance(node, Scalar) and node.style else _PLAIN):
            message = "a tag (!…) means nothing here: write the value alone"
            self._problems.report(node, self._path, message)
        if isinstance(node, Scalar):
            return
        if len(self._path) >= MAX_DEPTH:
            self._stop(node, "is nested too deep")
        if isinstance(node, ListNode):
            for at, item in enumerate(node.value):
                self._check_below(at, item, node.start_mark)
        else:
            self._check_entries(node)

    def _check_below(self, step: str | int, node: Node, holder: Any) -> None:
        self._path.append(step)
        self.check(node, holder)
        self._path.pop()

    def _check_entries(self, node: Node) -> None:
        first: dict[str, int] = {}
        for key, value in node.value:
            self._check_key(key, value)
            if key.value in first:
                message = f"the key is here twice, first in line {first[key.value]}"
                self._problems.report(key, [*self._path, key.value], message)
            first.setdefault(key.value, key.start_mark.line + 1)
            self._check_below(key.value, value, key.start_mark)

    def _check_key(self, key: Node, value: Node) -> None:
        if id(key) in self._seen:
            self._stop(value, "a key can't be an alias (*…)")
        if not isinstance(key, Scalar):
            self._stop(key, f"a key can't be {what(key)}")
        if key.start_mark.line != key.end_mark.line:
            self._stop(key, "a key can't go over lines: is its ':' missing?")
        if value.start_mark.index == value.end_mark.index == key.end_mark.index:
            message = "has no ':' behind it: a value with a comma in it has to be in quotes"
            self._stop(key, message)
        self.check(key, key.start_mark)

    def _stop(self, node: Node, message: str) -> NoReturn:
        self._problems.add(message, spot_of(node.start_mark), self._path)
        raise self._problems.stop()


# Writing.


def write(value: Any) -> str:
    """Format mappings, lists, strings, numbers and booleans as YAML, in their order.

    A list of single values is on one line, and a string that may be taken for another type is in
    quotes.
    """
    style: dict[str, Any] = {"default_flow_style": None, "width": inf, "allow_unicode": True}
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **style)
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Repeat equal values: the parser refuses aliases."""
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        return super().represent_mapping(tag, mapping, flow_style=False)


def _string(dumper: _Dumper, text: str) -> Any:
    style = None if _read_as(text) == "a string" else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _string)
