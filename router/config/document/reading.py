"""From bytes to PyYAML's nodes, strictly, and from plain data back to text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NoReturn

import yaml
from yaml.resolver import Resolver

from router.config.document.problems import WHOLE_FILE, Problems, Spot, shown
from router.config.document.syntax import explain, hint, spot_of

Node = yaml.Node
Scalar = yaml.ScalarNode
ListNode = yaml.SequenceNode
MapNode = yaml.MappingNode

#: The keys and positions that lead to a node from the root.
Path = Sequence[str | int]

#: The largest text, in bytes. 100,000 routes take about 10 MB.
MAX_SIZE = 32 * 1024 * 1024

#: The most nodes that a text may have. 100,000 routes have about 1.2 million.
MAX_NODES = 3_000_000

#: The deepest nesting of lists and mappings. A pattern in a route's list is in the fifth.
MAX_DEPTH = 20

#: Aliases may repeat this many nodes, and `ALIAS_RATIO` times as many as are written out so far.
MAX_ALIASED = 10_000
ALIAS_RATIO = 5

_LINE_END = re.compile(r"\r\n?|\n")

#: The characters that YAML does not allow, and the line ends that only YAML knows.
_REFUSED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
#: A search looks through this many characters at a time.
_PIECE = 64 * 1024
#: A tab before any comment; the parsers disagree on where one is allowed.
_TAB = re.compile(r"^[^#\t\r\n]*+(?=\t)", re.MULTILINE)

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

#: The tags of nodes without a written tag.
_PLAIN, _QUOTED = "plain", "quoted"


class _TooMany(Exception):
    """The text has more than MAX_NODES nodes."""


class _Strict:
    """Resolves no types: a node keeps its text as it was written."""

    _nodes = 0

    def resolve(self, kind: type[Node], _value: Any, implicit: Any) -> str:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooMany
        return _QUOTED if kind is Scalar and not implicit[0] else _PLAIN


class PythonLoader(_Strict, yaml.SafeLoader):
    """PyYAML's own parser."""


#: libyaml where PyYAML has it, which is twenty times faster.
LOADER: Any = PythonLoader
if yaml.__with_libyaml__:
    LOADER = type("CLoader", (_Strict, yaml.CSafeLoader), {})


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

    def at(self, path: Path) -> Node:
        node = self.root
        for step in path:
            node = node.value[step] if isinstance(step, int) else self.entries(node)[step][1]
        return node

    def key(self, path: Path) -> Scalar:
        return self.entries(self.at(path[:-1]))[str(path[-1])][0]


def path_of(path: Path) -> str:
    """Format a path, such as `routes[2].required`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{shown(step)[1:-1]}" for step in path)
    return "".join(steps).removeprefix(".")


def is_plain(node: Node) -> bool:
    """True if a scalar was written without quotes, so that YAML may take it for another type."""
    return isinstance(node, Scalar) and not node.style


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


def parse_document(text: bytes | str, file: str, problems: Problems | None = None) -> Tree:
    """Parse the one document in `text`; `file` is its name in problems.

    Raises ConfigInvalid. Faults that leave the tree whole (a key twice, a tag) are added to
    `problems` if given, so that a loader can report them together with its own.
    """
    collected = Problems(file) if problems is None else problems
    text = readable(text, collected)
    root = _compose(text, collected)
    _Check(collected).check(root, root.start_mark)
    if collected and problems is None:
        raise collected.stop()
    return Tree(root)


def _compose(text: str, problems: Problems) -> Node:
    # libyaml takes a missing line end for one more line.
    text = text if text.endswith("\n") else f"{text}\n"
    spot, message = WHOLE_FILE, "is empty"
    try:
        root: Node | None = yaml.compose(text, Loader=LOADER)
        if root is not None and not (is_plain(root) and not root.value):
            return root
    except yaml.MarkedYAMLError as error:
        spot, message = explain(error, text, LOADER)
    except _TooMany:
        message = f"has more than {MAX_NODES} values"
    except RecursionError:
        message = "is nested too deep"
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML's own parser, at an escape or a version with an absurd number. It has no mark.
        message = "is not valid YAML"
    problems.add(spot, "", message)
    raise problems.stop()


class _Check:
    """One walk through the nodes, aliases written out: refuses parts of YAML that a configuration
    does not have."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        #: The nodes seen so far, and the lists and mappings that the walk is in, by their ids.
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._written = 0
        self._aliased = 0
        #: Inside an alias, the mark of the key or list that has it: the alias itself has none.
        self._alias: Any = None
        self._path: list[str | int] = []

    def check(self, node: Node, holder: Any) -> None:
        """Check a node and all below; `holder` is the mark of the key or list that has it."""
        is_outermost = self._alias is None and id(node) in self._seen
        if is_outermost:
            self._alias = holder
        self._count(node)
        if not isinstance(node, Scalar):
            if len(self._path) >= MAX_DEPTH:
                self._stop(node, "is nested too deep")
            self._open.add(id(node))
            self._check_inside(node)
            self._open.remove(id(node))
        if is_outermost:
            self._alias = None

    def _count(self, node: Node) -> None:
        """Count a node. No problem has the name of an anchor, which may be a secret that was
        written without quotes."""
        if id(node) in self._open:
            self._stop(node, "this alias (*…) is inside of what it stands for")
        if self._alias:
            self._aliased += 1
            if self._aliased > MAX_ALIASED + ALIAS_RATIO * self._written:
                self._stop(node, "aliases repeat too much by here")
            return
        self._seen.add(id(node))
        self._written += 1
        if node.tag != (_QUOTED if isinstance(node, Scalar) and node.style else _PLAIN):
            message = "a tag (!…) means nothing here: write the value alone"
            self._report(node, self._path, message)

    def _check_inside(self, node: Node) -> None:
        if isinstance(node, ListNode):
            for at, item in enumerate(node.value):
                self._check_below(at, item, node.start_mark)
            return
        for key, value in node.value:
            if not self._alias:
                self._check_key(key, value)
            self._check_below(key.value, value, key.start_mark)
        if not self._alias:
            self._finish(node)

    def _check_below(self, step: str | int, node: Node, holder: Any) -> None:
        self._path.append(step)
        self.check(node, holder)
        self._path.pop()

    def _check_key(self, key: Node, value: Node) -> None:
        """Refuse a key that is a mistake, such as `b` in `{token: a,b}`: it is probably a part of a
        secret, so no problem names it."""
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

    def _finish(self, node: Node) -> None:
        """Report keys that are written twice, and add merged ones: a written key wins, then the
        first merged one."""
        first: dict[str, int] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if is_plain(key) and key.value == "<<":
                merged.append(value)
            if key.value in first:
                message = f"the key is here twice, first in line {first[key.value]}"
                self._report(key, [*self._path, key.value], message)
            first.setdefault(key.value, key.start_mark.line + 1)
        if not merged:
            return
        entries = {
            key.value: (key, value)
            for key, value in node.value
            if not (is_plain(key) and key.value == "<<")
        }
        for value in merged:
            for source in value.value if isinstance(value, ListNode) else [value]:
                if isinstance(source, MapNode):
                    for key, below in source.value:
                        entries.setdefault(key.value, (key, below))
                else:
                    message = f"<< takes a mapping, not {what(source)}"
                    self._report(source, [*self._path, "<<"], message)
        node.value = list(entries.values())

    def _report(self, node: Node, path: Path, message: str) -> None:
        report(self._problems, node, path_of(path), message)

    def _stop(self, node: Node, message: str) -> NoReturn:
        self._problems.add(spot_of(self._alias or node.start_mark), path_of(self._path), message)
        raise self._problems.stop()


def report(problems: Problems, node: Node, path: str, message: str, *, once: bool = False) -> None:
    """Add a problem at a node, with a hint if it has a character that only looks right."""
    message += hint(node.value) if is_plain(node) else ""
    problems.add(spot_of(node.start_mark), path, message, once=once)


def readable(text: bytes | str, problems: Problems) -> str:
    """Return `text` as characters, without a byte order mark. Raises ConfigInvalid with every
    character that is not allowed."""
    if len(text) > MAX_SIZE:
        problems.add(WHOLE_FILE, "", f"is larger than {MAX_SIZE // 2**20} MiB")
        raise problems.stop()
    if isinstance(text, bytes):
        text = _decoded(text, problems)
    text = text.removeprefix("\ufeff")
    spot = spots(text)
    # In pieces: one search of 10,000 routes holds every other thread for 8 ms.
    for start in range(0, len(text), _PIECE):
        for match in _REFUSED.finditer(text, start, start + _PIECE):
            character = f"U+{ord(match[0]):04X}"
            problems.add(spot(match.start()), "", f"the character {character} is not allowed")
    # Only if there is one: the search costs 8 ms in 10,000 routes.
    for match in _TAB.finditer(text) if "\t" in text else ():
        problems.add(spot(match.end()), "", "a tab: use spaces")
    if problems:
        raise problems.stop()
    return text


def lines(content: bytes | str) -> list[str]:
    """Return the lines as positions count them, without their ends. Never fails."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    return _LINE_END.split(text.removeprefix("\ufeff"))


def _decoded(content: bytes, problems: Problems) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            problems.add(WHOLE_FILE, "", "is UTF-16: save it as UTF-8")
        else:
            before = lines(content[: error.start])
            message = f"the byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
            problems.add(Spot(len(before), len(before[-1]) + 1), "", message)
    raise problems.stop()


def spots(text: str) -> Callable[[int], Spot]:
    """Return a function from an offset in `text` to its place. The lines are split once."""
    starts: list[int] = []

    def spot(offset: int) -> Spot:
        if not starts:
            starts.extend([0, *(match.end() for match in _LINE_END.finditer(text))])
        line = bisect_right(starts, offset)
        return Spot(line, offset - starts[line - 1] + 1)

    return spot


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
        """Repeat equal values: an alias would only puzzle."""
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        return super().represent_mapping(tag, mapping, flow_style=False)


def _string(dumper: _Dumper, text: str) -> Any:
    style = None if _read_as(text) == "a string" else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _string)
