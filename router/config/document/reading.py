"""From bytes to PyYAML's nodes, strictly, and from nodes to plain data and back to text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NoReturn

import yaml

from router.config.document.problems import WHOLE_FILE, Problems, Spot, shown
from router.config.document.syntax import explain, hint, spot_of

Node = yaml.Node
Scalar = yaml.ScalarNode
ListNode = yaml.SequenceNode
MapNode = yaml.MappingNode

#: Where in a document: keys and positions from its root.
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

#: What YAML does not allow, and the line ends that only YAML takes for such.
_REFUSED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
#: So many characters are looked through at a time.
_PIECE = 64 * 1024
#: A tab before any comment; the parsers disagree on where one is allowed.
_TAB = re.compile(r"^[^#\t\r\n]*+(?=\t)", re.MULTILINE)

#: The next alias; a comment may have a star in it.
_ALIAS = re.compile(r"(?:^|\s)#[^\n]*|(\*)", re.MULTILINE)

#: What YAML reads a text without quotes as: all that 1.1 does, and the numbers that only 1.2 has,
#: which editors go by.
_READ_AS = re.compile(
    r"""
    (?P<nothing> ~ | null | )
    | (?P<boolean> yes | no | true | false | on | off)
    | (?P<date> [0-9]{4}-[0-9]{1,2}-[0-9]{1,2} ([t\s].*)?)
    | (?P<number> \.nan | [-+]? (
        \.inf | 0[xob][0-9a-f_]+ | ([0-9][0-9_:]* (\.[0-9_]*)? | \.[0-9][0-9_]*) (e[-+]?[0-9]+)?))
    | (?P<mark> << | =)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_NAMES = {
    "nothing": "nothing",
    "boolean": "a boolean",
    "date": "a date",
    "number": "a number",
    "mark": "a mark of its own",
}
#: What any such text begins with.
_FIRST = frozenset("0123456789.-+~nytofNYTOF<=")

#: The tags of nodes that have none written.
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

    def entries(self, node: Node | None) -> dict[str, tuple[Scalar, Node]]:
        """The keys and values of a mapping; of any other node none."""
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
    """A path as problems have it, such as `routes[2].required`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{shown(step)[1:-1]}" for step in path)
    return "".join(steps).removeprefix(".")


def is_plain(node: Node) -> bool:
    """Whether a scalar was written without quotes, so that YAML may take it for another type."""
    return isinstance(node, Scalar) and not node.style


def what(node: Node) -> str:
    """What YAML reads it as: `a string`, unless it is plain and looks like another type."""
    if not isinstance(node, Scalar):
        return "a list" if isinstance(node, ListNode) else "a mapping"
    if node.style or (node.value and node.value[0] not in _FIRST):
        return "a string"
    match = _READ_AS.fullmatch(node.value)
    return _NAMES[match.lastgroup or ""] if match else "a string"


def parse_document(text: bytes | str, file: str, problems: Problems | None = None) -> Tree:
    """The tree of the one document in `text`; `file` is the name that problems carry.

    Raises ConfigInvalid. Faults that leave the tree whole (a key twice, a tag) go to `problems`
    where that is given, so that a loader can report them together with its own.
    """
    found = Problems(file) if problems is None else problems
    text = readable(text, found)
    root = _compose(text, found)
    _Check(text, found).check(root)
    if found and problems is None:
        raise found.stop()
    return Tree(root)


def _compose(text: str, problems: Problems) -> Node:
    # libyaml takes a missing line end for one more line.
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        root: Node | None = yaml.compose(text, Loader=LOADER)
        if root is not None and not (is_plain(root) and not root.value):
            return root
        problems.add(WHOLE_FILE, "", "is empty")
    except yaml.MarkedYAMLError as error:
        spot, meaning = explain(error, text, LOADER)
        problems.add(spot, "", meaning)
    except _TooMany:
        problems.add(WHOLE_FILE, "", f"has more than {MAX_NODES} values")
    except RecursionError:
        problems.add(WHOLE_FILE, "", "is nested too deep")
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML's own parser, at an escape or a version with an absurd number. It has no mark.
        problems.add(WHOLE_FILE, "", "is not valid YAML")
    raise problems.stop()


class _Check:
    """One walk through the nodes: what YAML allows and a configuration does not."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        #: By id: how many nodes each is with aliases written out, and how deep; 0 while it is open.
        self._sizes: dict[int, int] = {}
        self._depths: dict[int, int] = {}
        self._written = 0
        self._aliased = 0
        #: Where the walk is, in the structure.
        self._path: list[str | int] = []
        #: The offset in the text that the walk has come to.
        self._at = 0

    def check(self, node: Node) -> int:
        """Check a node; return how deep it is."""
        if id(node) in self._sizes:
            return self._alias(node)
        self._written += 1
        if node.tag != (_QUOTED if isinstance(node, Scalar) and node.style else _PLAIN):
            message = "a tag (!…) means nothing here: write the value alone"
            self._report(node, self._path, message)
        if isinstance(node, Scalar):
            self._sizes[id(node)], self._depths[id(node)] = 1, 0
            self._at = node.end_mark.index
            return 0
        self._sizes[id(node)] = 0
        self._at = max(self._at, node.start_mark.index)
        if len(self._path) >= MAX_DEPTH:
            self._stop(spot_of(node.start_mark), "is nested too deep")
        size, depth = 1, 0
        if isinstance(node, ListNode):
            for at, item in enumerate(node.value):
                depth = max(depth, self._below(at, item))
                size += self._sizes[id(item)]
        else:
            for key, value in node.value:
                self._check_key(key, value)
                depth = max(depth, self._below(key.value, value))
                size += 1 + self._sizes[id(value)]
            self._finish(node)
        self._sizes[id(node)], self._depths[id(node)] = size, depth
        return depth

    def _below(self, step: str | int, node: Node) -> int:
        self._path.append(step)
        depth = 1 + self.check(node)
        self._path.pop()
        return depth

    def _alias(self, node: Node) -> int:
        """No problem has the name of the anchor, which may be a secret without quotes."""
        if not self._sizes[id(node)]:
            self._stop(self._spot(), "this alias (*…) is inside of what it stands for")
        self._aliased += self._sizes[id(node)]
        if self._aliased > MAX_ALIASED + ALIAS_RATIO * self._written:
            self._stop(self._spot(), "aliases repeat too much by here")
        if len(self._path) + self._depths[id(node)] > MAX_DEPTH:
            self._stop(self._spot(), "is nested too deep")
        self._at = self._star() + 1
        return self._depths[id(node)]

    def _star(self) -> int:
        """Where the next alias is."""
        stars = (match.start(1) for match in _ALIAS.finditer(self._text, self._at) if match[1])
        return next(stars, self._at)

    def _spot(self) -> Spot:
        return spots(self._text)(self._star())

    def _check_key(self, key: Node, value: Node) -> None:
        """Refuse what is a key by mistake, such as `b` in `{token: a,b}`: it is rather a part of a
        secret, and so is in no problem."""
        begin, end = key.start_mark, key.end_mark
        if id(key) in self._sizes:
            self._stop(self._spot(), "a key can't be an alias (*…)")
        if not isinstance(key, Scalar):
            self._stop(spot_of(begin), f"a key can't be {what(key)}")
        if begin.line != end.line:
            self._stop(spot_of(begin), "a key can't go over lines: is its ':' missing?")
        if value.start_mark.index == value.end_mark.index == end.index:
            message = "has no ':' behind it: a value with a comma in it has to be in quotes"
            self._stop(spot_of(begin), message)
        self.check(key)

    def _finish(self, node: Node) -> None:
        """Report keys that are here twice, and add what merge keys bring in: a key that is written
        wins, then the first merged one."""
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
                    for key, each in source.value:
                        entries.setdefault(key.value, (key, each))
                else:
                    message = f"<< takes a mapping, not {what(source)}"
                    self._report(source, [*self._path, "<<"], message)
        node.value = list(entries.values())

    def _report(self, node: Node, path: Path, message: str) -> None:
        report(self._problems, node, path_of(path), message)

    def _stop(self, spot: Spot, message: str) -> NoReturn:
        self._problems.add(spot, path_of(self._path), message)
        raise self._problems.stop()


def report(problems: Problems, node: Node, path: str, message: str, *, once: bool = False) -> None:
    """Add a problem at a node, with a hint where that has a character which only looks right."""
    told = message + (hint(node.value) if is_plain(node) else "")
    problems.add(spot_of(node.start_mark), path, told, once=once)


def readable(text: bytes | str, problems: Problems) -> str:
    """`text` as characters, without a byte order mark. Raises every reason why it can't be read."""
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
    # Looked for only where there is one: it costs 8 ms in 10,000 routes.
    for match in _TAB.finditer(text) if "\t" in text else ():
        problems.add(spot(match.end()), "", "a tab: use spaces")
    if problems:
        raise problems.stop()
    return text


def lines(content: bytes | str) -> list[str]:
    """The lines as positions count them, without their ends; never an error."""
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
    """What gives the place of an offset in `text`; the lines are looked for once, if ever."""
    starts: list[int] = []

    def spot(offset: int) -> Spot:
        if not starts:
            starts.extend([0, *(match.end() for match in _LINE_END.finditer(text))])
        line = bisect_right(starts, offset)
        return Spot(line, offset - starts[line - 1] + 1)

    return spot


def write(value: Any) -> str:
    """YAML for mappings, lists, strings, numbers and booleans, in the order that they have.

    A list of single values is on one line, and a string that may be taken for anything else is in
    quotes.
    """
    style: dict[str, Any] = {"default_flow_style": None, "width": inf, "allow_unicode": True}
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **style)
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """What is there twice is written twice: an alias would only puzzle."""
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        return super().represent_mapping(tag, mapping, flow_style=False)


def _string(dumper: _Dumper, text: str) -> Any:
    style = "'" if _READ_AS.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _string)
