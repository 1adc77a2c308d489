"""Mappings with fixed keys: each key is declared once, for the loader and for editors alike."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from router.config.document import MapNode, Node, ScalarNode, shown
from router.config.kinds import Boolean, mismatch
from router.config.reader import Kind, Reader, Schema, did_you_mean

T = TypeVar("T")
S = TypeVar("S", bound="Section")


class Key(Generic[T]):
    """One key of a section. On a section that was read, the attribute is the value.

    `default` is what a key that is not written has; where the key is `required`, it only stands in
    for a value that could not be read.
    """

    name: str

    def __init__(
        self,
        kind: Kind[T],
        about: str,
        *,
        default: T,
        written: object = None,
        required: bool = False,
    ) -> None:
        self.kind = kind
        #: What editors say about the key.
        self.about = about
        self.default = default
        self.required = required
        if written is None and not required and isinstance(default, str | int) and default != "":
            written = default
        #: The default as the file would have it; a word, a number or a boolean is its own.
        self._written = written

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, section: None, owner: type) -> Self: ...
    @overload
    def __get__(self, section: Section, owner: type) -> T: ...
    def __get__(self, section: Section | None, owner: type) -> Self | T:
        return self if section is None else section.values.get(self.name, self.default)

    def schema(self) -> Schema:
        default = {} if self._written is None else {"default": self._written}
        return {"description": self.about, **default, **self.kind.schema()}


class Section:
    """A mapping that has been read. A subclass declares its keys as attributes."""

    keys: ClassVar[dict[str, Key[Any]]] = {}
    #: Those of all sections there are.
    words: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        own = {name: key for name, key in vars(cls).items() if isinstance(key, Key)}
        cls.keys = {**cls.keys, **own}
        cls.words.update(own)

    def __init__(self, node: MapNode, path: str) -> None:
        self.node = node
        self.path = path
        #: By key: the values that could be read, and the nodes that are written.
        self.values: dict[str, Any] = {}
        self.nodes: dict[str, Node] = {}

    @classmethod
    def blank(cls) -> Self:
        """The section as it is where nothing is written."""
        return cls(MapNode(0, 0), "")

    @classmethod
    def read(cls, node: Node, path: str, reader: Reader) -> Self:
        if not isinstance(node, MapNode):
            first = next((n for n, key in cls.keys.items() if key.required), next(iter(cls.keys)))
            raise mismatch(node, f"a mapping, like {{{first}: …}},")
        section = cls(node, path)
        meant = set()
        for key, value in node.entries:
            key.judge(True)
            if key.text in cls.keys:
                section.nodes[key.text] = value
            else:
                meant.add(cls._report_unknown(key, path, reader))
        for name, declared in cls.keys.items():
            if name in section.nodes:
                where = f"{path}.{name}" if path else name
                value = reader.read(declared.kind, section.nodes[name], where, declared.default)
                section.values[name] = value
            elif declared.required and name not in meant:
                reader.problems.add(node, path, f"the key {shown(name)} is missing")
        return section

    @classmethod
    def _report_unknown(cls, key: ScalarNode, path: str, reader: Reader) -> str | None:
        """Say that there is no such key; the one that was probably meant."""
        likely = reader.likely(key.text, cls.keys)
        hint = did_you_mean(likely) or f"; there are {', '.join(cls.keys)}"
        reader.problems.add(key, path, f"unknown key {shown(key.text)}{hint}")
        return likely

    @classmethod
    def schema(cls) -> Schema:
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [name for name, key in cls.keys.items() if key.required],
            "properties": {name: key.schema() for name, key in cls.keys.items()},
        }


class Switch(Generic[S]):
    """A section, or `true` for what it is by default, or `false` for none."""

    def __init__(self, section: type[S]) -> None:
        self._section = section
        self._boolean = Boolean("true, false or a mapping")

    def read(self, node: Node, path: str, reader: Reader) -> S | None:
        if isinstance(node, ScalarNode):
            return self._section.blank() if self._boolean.read(node, path, reader) else None
        return self._section.read(node, path, reader)

    def schema(self) -> Schema:
        return {"anyOf": [*self._boolean.schema()["anyOf"], self._section.schema()]}
