"""The nodes of a document: scalars, lists and mappings, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

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


@dataclass(slots=True, eq=False)
class ScalarNode:
    """A single value as text: `8s`, `"8s"`. Not frozen, for speed; only `judge` changes it."""

    text: str
    #: Written without quotes, so that YAML may take it for something else than text.
    plain: bool
    #: Both from 1, in characters.
    line: int
    column: int
    #: Whether it may be shown to whoever sees the terminal; None until a reader knows.
    harmless: bool | None = None
    size: ClassVar[int] = 1

    def judge(self, harmless: bool) -> None:
        """Say what it is. Of several that read it by aliases, each has to find it harmless."""
        self.harmless = harmless and self.harmless is not False

    @property
    def what(self) -> str:
        """What YAML reads it as: `a string`, unless it is plain and looks like another type."""
        match = _READ_AS.fullmatch(self.text) if self.plain else None
        return _NAMES[match.lastgroup or ""] if match else "a string"


@dataclass(slots=True, eq=False)
class ListNode:
    """A list. It is built piece by piece, then nobody changes it."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    #: How many nodes it is with aliases written out; 0 until it is whole.
    size: int = 0
    what: ClassVar[str] = "a list"


@dataclass(slots=True, eq=False)
class MapNode:
    """A mapping, merge keys flattened. It is built piece by piece, then nobody changes it."""

    line: int
    column: int
    entries: list[tuple[ScalarNode, Node]] = field(default_factory=list)
    #: How many nodes it is with aliases written out; 0 until it is whole.
    size: int = 0
    what: ClassVar[str] = "a mapping"


Node = ScalarNode | ListNode | MapNode
