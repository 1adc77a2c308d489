"""The parser's events put together to a tree; with `blame` and `writer` the one door to PyYAML.

PyYAML's own composer is not used: it recurses, keeps no trace of keys given twice, follows aliases
without counting, and holds the interpreter's lock for a whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from router.config.document.blame import blame, spot_of
from router.config.document.nodes import ListNode, MapNode, Node, ScalarNode
from router.config.document.problems import WHOLE_FILE, Place, Problems, Spot, shown

#: libyaml where PyYAML has it, which is twenty times faster, else PyYAML's own.
PARSER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

#: The most nodes that a text may have. 100,000 routes have about 1.2 million.
MAX_NODES = 3_000_000

#: The deepest nesting of lists and mappings. A pattern in a route's list is in the fifth.
MAX_DEPTH = 20

#: Aliases may repeat this many nodes, and `ALIAS_RATIO` times as many as are written out so far.
MAX_ALIASED = 10_000
ALIAS_RATIO = 5


def compose(text: str, problems: Problems) -> Node:
    """The tree of the one document in `text`. Raises ConfigInvalid where there can be none."""
    composer = _Composer(problems)
    for event in _events(text, problems):
        composer.take(event)
    if composer.root is None:
        problems.add(WHOLE_FILE, "", "is empty")
        raise problems.stop()
    return composer.root


def _events(text: str, problems: Problems) -> Iterator[yaml.Event]:
    # libyaml takes a missing line end for one more line.
    text = text if text.endswith("\n") else f"{text}\n"
    parser = PARSER(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    except yaml.MarkedYAMLError as error:
        place, meaning = blame(error, text, PARSER)
        problems.add(place, "", meaning)
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML's own parser, at an escape or a version with an absurd number. It has no mark.
        problems.add(WHOLE_FILE, "", "is not valid YAML")
    else:
        return
    finally:
        parser.dispose()
    raise problems.stop()


class _Composer:
    """The tree while it grows. What follows from a fault already reported is not."""

    def __init__(self, problems: Problems) -> None:
        self.root: Node | None = None
        self._problems = problems
        #: The lists and mappings that are not closed yet, the outermost first.
        self._open: list[ListNode | MapNode] = []
        #: Beside each of them the key that waits for its value.
        self._keys: list[ScalarNode | None] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0
        #: Where the last scalar ends, as an offset.
        self._end = 0
        self._written = 0
        self._aliased = 0

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            mark = event.start_mark
            self._mind_key(mark, event.end_mark)
            self._end = event.end_mark.index
            node = ScalarNode(event.value, not event.style, mark.line + 1, mark.column + 1)
            self._count(node, event)
            self._put(node)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._close()
        elif kind is yaml.MappingStartEvent:
            self._begin(MapNode(event.start_mark.line + 1, event.start_mark.column + 1), event)
        elif kind is yaml.SequenceStartEvent:
            self._begin(ListNode(event.start_mark.line + 1, event.start_mark.column + 1), event)
        elif kind is yaml.AliasEvent:
            self._put(self._alias(event.anchor, spot_of(event.start_mark)))
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                self._stop(
                    spot_of(event.start_mark), "a second document begins: a file has only one"
                )

    def _mind_key(self, begin: Any, end: Any) -> None:
        """Refuse a key that goes over lines, and one whose empty value is where it ends, such as
        `b` in `{token: a,b}`: it is rather a part of a secret, and so is in no problem."""
        if not self._open or isinstance(self._open[-1], ListNode):
            return
        key = self._keys[-1]
        if key is None and begin.line != end.line:
            self._stop(spot_of(begin), "a key can't go over lines: is its ':' missing?")
        elif key is not None and begin.index == end.index == self._end:
            self._keys[-1] = None
            self._stop(key, "has no ':' behind it: a value with a comma in it has to be in quotes")

    def _count(self, node: Node, event: Any) -> None:
        self._written += 1
        if self._written > MAX_NODES:
            self._stop(node, f"has more than {MAX_NODES} values")
        if event.anchor is not None:
            if event.anchor in self._anchors:
                self._report(node, "this anchor (&…) is above already")
            self._anchors[event.anchor] = node
        if event.tag is not None:
            self._report(node, "a tag (!…) means nothing here: write the value alone")

    def _begin(self, node: ListNode | MapNode, event: Any) -> None:
        self._count(node, event)
        if len(self._open) >= MAX_DEPTH:
            self._stop(node, "is nested too deep")
        self._open.append(node)
        self._keys.append(None)

    def _close(self) -> None:
        node = self._open[-1]
        if isinstance(node, MapNode):
            self._finish(node)
            node.size = 1 + sum(key.size + value.size for key, value in node.entries)
        else:
            node.size = 1 + sum(item.size for item in node.items)
        self._open.pop()
        self._keys.pop()
        self._put(node)

    def _put(self, node: Node) -> None:
        """Give a whole node to the list or mapping that it is in."""
        if not self._open:
            blank = isinstance(node, ScalarNode) and node.plain and not node.text
            self.root = None if blank else node
            return
        parent = self._open[-1]
        key = self._keys[-1]
        if isinstance(parent, ListNode):
            parent.items.append(node)
        elif key is not None:
            parent.entries.append((key, node))
            self._keys[-1] = None
        elif isinstance(node, ScalarNode):
            self._keys[-1] = node
        else:
            self._stop(node, f"a key can't be {node.what}")

    def _alias(self, name: str, spot: Spot) -> Node:
        """What it stands for. No problem has its name, which may be a secret without quotes."""
        node = self._anchors.get(name)
        if node is None:
            advice = "a value that starts with * has to be in quotes"
            self._stop(spot, f"there is no anchor of this name above; {advice}")
        if isinstance(self._open[-1], MapNode) and self._keys[-1] is None:
            self._stop(spot, "a key can't be an alias (*…)")
        if not node.size:
            self._stop(spot, "this alias (*…) is inside of what it stands for")
        self._aliased += node.size
        if self._aliased > MAX_ALIASED + ALIAS_RATIO * self._written:
            self._stop(spot, "aliases repeat too much by here")
        return node

    def _finish(self, node: MapNode) -> None:
        names = {key.text for key, _ in node.entries}
        if len(names) < len(node.entries):
            self._report_twice(node)
        if "<<" in names:
            self._flatten(node)

    def _report_twice(self, node: MapNode) -> None:
        first: dict[str, int] = {}
        for key, _ in node.entries:
            if key.text in first:
                message = f"the key is here twice, first in line {first[key.text]}"
                self._report(key, message, key.text)
            first.setdefault(key.text, key.line)

    def _flatten(self, node: MapNode) -> None:
        """Add what merge keys bring in: a key that is written wins, then the first merged one."""
        entries = {key.text: (key, value) for key, value in node.entries if not _merges(key)}
        for value in [value for key, value in node.entries if _merges(key)]:
            for source in value.items if isinstance(value, ListNode) else [value]:
                if isinstance(source, MapNode):
                    for entry in source.entries:
                        entries.setdefault(entry[0].text, entry)
                else:
                    self._report(source, f"<< takes a mapping, not {source.what}", "<<")
        node.entries = list(entries.values())

    def _report(self, place: Place, message: str, key: str = "") -> None:
        self._problems.add(place, self._path(key), message)

    def _stop(self, place: Place, message: str) -> NoReturn:
        self._report(place, message)
        raise self._problems.stop()

    def _path(self, last: str) -> str:
        """Where in the structure the composer is, such as `routes[2].required`."""
        steps = []
        for node, key in zip(self._open, self._keys, strict=True):
            if isinstance(node, ListNode):
                steps.append(f"[{len(node.items)}]")
            elif key is not None:
                steps.append(f".{shown(key.text)[1:-1]}")
        return "".join([*steps, f".{shown(last)[1:-1]}" if last else ""]).removeprefix(".")


def _merges(key: ScalarNode) -> bool:
    return key.plain and key.text == "<<"
