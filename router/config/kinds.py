"""The kinds of values in routes.yaml: each reads a node, and tells an editor what it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from router.config.document import ListNode, MapNode, Node, ScalarNode, shown
from router.config.reader import Fault, Kind, Reader, Schema
from router.contract.schedule import parse_duration
from router.model.secret import MASK, Secret

T = TypeVar("T")
C = TypeVar("C", bound=str)

#: In a schema, beside what a value has to look like: a variable may stand for it.
VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}


def mismatch(node: Node, what: str) -> Fault:
    """The fault of a node that is not even of the sort that is meant."""
    if isinstance(node, ScalarNode) and (node.what == "nothing" or not node.text):
        return Fault(f"is empty: {what} is meant, or the key can be left out")
    return Fault(f"{what} is meant, not {node.what}")


class ScalarKind(Generic[T]):
    """A kind that a single value has. Whatever is wrong with it is a Fault."""

    #: What is meant, as a problem says it.
    what: str
    #: Whether no such value, as it is written, can be a secret: problems and excerpts may show it.
    harmless: bool = False

    def read(self, node: Node, path: str, reader: Reader) -> T:
        if not isinstance(node, ScalarNode) or not node.text:
            raise mismatch(node, self.what)
        node.judge(self.harmless)
        return self.value(reader.resolve(node, path, may_be_secret=not self.harmless), node)

    def value(self, text: str, node: ScalarNode) -> T:
        """What `text` means; `node` has it as it was written, which alone may be repeated."""
        raise NotImplementedError


class Text(ScalarKind[str]):
    """A string on one line."""

    def __init__(
        self, what: str, *, pattern: str = ".+", longest: int = 200, harmless: bool = True
    ) -> None:
        self.what = what
        self._pattern = pattern
        self._longest = longest
        self.harmless = harmless

    def value(self, text: str, node: ScalarNode) -> str:
        if node.what != "a string":
            quoted = f': "{shown(node.text)[1:-1]}"' if self.harmless else ""
            raise Fault(f"YAML reads this as {node.what}, put it in quotes{quoted}")
        if len(text) > self._longest:
            raise Fault(f"is longer than {self._longest} characters")
        if not text.isprintable():
            raise Fault("has a line end, or a character that can't be seen, in it")
        if not re.fullmatch(self._pattern, text):
            said = shown(node.text) if self.harmless else "this"
            raise Fault(f"{said} is not {self.what}")
        return text

    def schema(self) -> Schema:
        pattern = f"^{self._pattern}$"
        return {"type": "string", "pattern": pattern, "maxLength": self._longest}


class SecretText(ScalarKind[Secret]):
    """A string on one line that nothing prints, problems included."""

    def __init__(self, what: str, *, pattern: str = ".+", longest: int = 200) -> None:
        self.what = what
        self._text = Text(what, pattern=pattern, longest=longest, harmless=False)

    def value(self, text: str, node: ScalarNode) -> Secret:
        if text == MASK:
            raise Fault(f"{MASK} stands for a secret that was not printed")
        return Secret(self._text.value(text, node))

    def schema(self) -> Schema:
        return self._text.schema()


class Number(ScalarKind[int]):
    """A whole number, in plain digits."""

    harmless = True

    def __init__(self, least: int, most: int, what: str = "") -> None:
        self._least = least
        self._most = most
        self.what = what or f"a whole number from {least} to {most}"

    def value(self, text: str, node: ScalarNode) -> int:
        if not node.plain and text == node.text:
            raise Fault("a number is meant: take off the quotes")
        number = int(text) if re.fullmatch("0|[1-9][0-9]{0,8}", text) else -1
        if not self._least <= number <= self._most:
            raise Fault(f"{shown(node.text)} is not {self.what}")
        return number

    def schema(self) -> Schema:
        number = {"type": "integer", "minimum": self._least, "maximum": self._most}
        return {"anyOf": [number, VARIABLE]}


class Boolean(ScalarKind[bool]):
    """`true` or `false`, and none of YAML's other words for them."""

    harmless = True
    _words = ("true", "false")

    def __init__(self, what: str = "true or false") -> None:
        self.what = what

    def value(self, text: str, node: ScalarNode) -> bool:
        if text not in self._words:
            raise Fault(f"{shown(node.text)} is not {self.what}", node.text, self._words)
        if not node.plain and text == node.text:
            raise Fault(f"{self.what} is meant: take off the quotes")
        return text == "true"

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "boolean"}, VARIABLE]}


class Choice(ScalarKind[C]):
    """One of a few words."""

    harmless = True

    def __init__(self, *words: C) -> None:
        self._words = words
        self.what = " or ".join(words)

    def value(self, text: str, node: ScalarNode) -> C:
        for word in self._words:
            if word == text:
                return word
        raise Fault(f"{shown(node.text)} is not {self.what}", node.text, self._words)

    def schema(self) -> Schema:
        return {"anyOf": [{"enum": list(self._words)}, VARIABLE]}


class Duration(ScalarKind[float]):
    """A time span with its unit; the value is in seconds."""

    what = "a duration like 500ms, 8s, 2m, 1h"
    harmless = True

    def __init__(self, least: str, most: str) -> None:
        self._least = parse_duration(least)
        self._most = parse_duration(most)
        self._range = f"{least} to {most}"

    def value(self, text: str, node: ScalarNode) -> float:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            # Four digits and more are milliseconds to whoever writes no unit.
            unit = "ms" if float(text) >= 1000 else "s"
            likely = shown(f"{node.text}{unit}")
            raise Fault(f"{shown(node.text)} has no unit, did you mean {likely}?")
        try:
            seconds = parse_duration(text)
        except ValueError:
            raise Fault(f"{shown(node.text)} is not {self.what}") from None
        if not self._least <= seconds <= self._most:
            raise Fault(f"{shown(node.text)} is not within {self._range}")
        return seconds

    def schema(self) -> Schema:
        pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"
        message = "A duration like 500ms, 8s, 2m, 1h."
        duration = {"type": "string", "pattern": pattern, "patternErrorMessage": message}
        return {"anyOf": [duration, VARIABLE]}


@dataclass(frozen=True, slots=True)
class Placed:
    """A text and the scalar that it was read from."""

    value: str
    node: ScalarNode

    @property
    def written(self) -> str:
        """It as a problem may repeat it."""
        return shown(self.node.text)


class Located(ScalarKind[Placed]):
    """What `kind` reads, together with its place."""

    def __init__(self, kind: Text) -> None:
        self._kind = kind
        self.what = kind.what
        self.harmless = kind.harmless

    def value(self, text: str, node: ScalarNode) -> Placed:
        return Placed(self._kind.value(text, node), node)

    def schema(self) -> Schema:
        return self._kind.schema()


class ListOf(Generic[T]):
    """A list with at least one item. `alone`: a single item may stand without brackets."""

    def __init__(self, kind: Kind[T], *, alone: bool = False) -> None:
        self._kind = kind
        self._alone = alone

    def read(self, node: Node, path: str, reader: Reader) -> tuple[T, ...]:
        if not isinstance(node, ListNode):
            if self._alone:
                return (self._kind.read(node, path, reader),)
            raise mismatch(node, "a list, like [one, other],")
        if not node.items:
            raise Fault("is an empty list")
        items = (
            reader.read(self._kind, item, f"{path}[{index}]", None)
            for index, item in enumerate(node.items)
        )
        return tuple(item for item in items if item is not None)

    def schema(self) -> Schema:
        item = self._kind.schema()
        many = {"type": "array", "items": item, "minItems": 1}
        return {"anyOf": [item, many]} if self._alone else many


class MapOf(Generic[T]):
    """A mapping with at least one entry, whose keys are names that the user makes up."""

    def __init__(self, names: Text, kind: Kind[T]) -> None:
        self._names = names
        self._kind = kind

    def read(self, node: Node, path: str, reader: Reader) -> dict[str, T]:
        if not isinstance(node, MapNode):
            raise mismatch(node, "a mapping of names, like {name: …},")
        if not node.entries:
            raise Fault("is an empty mapping")
        found: dict[str, T] = {}
        texts: set[str] = set()
        for key, value in node.entries:
            where = f"{path}.{shown(key.text)[1:-1]}"
            name = self._name(key, where, reader)
            # What is written alike is a key twice, which the document tells of.
            if name in found and key.text not in texts:
                reader.problems.add(key, where, f"{shown(name)} is here twice")
            texts.add(key.text)
            item = reader.read(self._kind, value, where, None)
            if item is not None:
                found[name] = item
        return found

    def _name(self, key: ScalarNode, path: str, reader: Reader) -> str:
        """The name that a key is. One that is wrong counts too, so that no other fault is lost."""
        key.judge(self._names.harmless)
        try:
            return self._names.value(key.text, key)
        except Fault as fault:
            reader.problems.add(key, path, str(fault))
            return key.text

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": self._names.schema(),
            "additionalProperties": self._kind.schema(),
            "minProperties": 1,
        }
