"""The schemas as the loader: a reader walks a document along its schema. The schema's kinds parse
the values, and its rules have their messages."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from router.config.document import (
    Guesses,
    MapNode,
    Node,
    Problems,
    Scalar,
    Steps,
    Tree,
    did_you_mean,
    shown,
)
from router.config.values import PARSERS, Fault, Schema, anchored, expected, mismatch
from router.config.variables import Unresolved, Variables
from router.contract.schema import shipped_schema

#: The files with a schema: a routes.yaml alone, a folder's routes.yaml, a file in its routes.d, a
#: tests file, a tokens file.
Name = Literal["routes", "routes.common", "routes.team", "routes.test", "tokens"]

#: The names of an event's fields begin with it.
_FIELD = "event_"

_FILE = re.compile(r"\$\{file:([^{}]*)\}")


@cache
def document(name: Name) -> Schema:
    """Return a schema, as an editor reads it."""
    schema: Schema = json.loads(shipped_schema(f"{name}.schema.json").read_text("utf-8"))
    return schema


@dataclass(slots=True)
class Shape:
    """The schema of one value, references followed. If a value may be of several sorts, its shape
    has more than one of a leaf, an item, and keys."""

    schema: Schema
    #: Of a scalar.
    leaf: Schema | None = None
    #: Of a list, which is never empty.
    item: Shape | None = None
    #: Of a mapping: its fixed keys, or the shapes of its names and of its values.
    fixed: Schema = field(default_factory=dict)
    keys: dict[str, Shape] = field(default_factory=dict)
    names: Shape | None = None
    rest: Shape | None = None

    @property
    def is_map(self) -> bool:
        return bool(self.keys) or self.rest is not None

    def takes(self, node: Node) -> bool:
        """True if a node is of a sort that may be here."""
        if isinstance(node, Scalar):
            return self.leaf is not None
        return self.is_map if isinstance(node, MapNode) else self.item is not None

    def mismatch(self, node: Node) -> str:
        """Return the message about a node of another sort."""
        if self.keys and (self.leaf is None or not isinstance(node, Scalar)):
            required = self.fixed.get("required") or [*self.keys]
            return str(mismatch(node, f"a mapping, like {{{required[0]}: …}},"))
        if self.rest is not None:
            return str(mismatch(node, "a mapping of names, like {name: …},"))
        what = expected(self.leaf) if self.leaf else "a list, like [one, other],"
        return str(mismatch(node, what))

    def at(self, path: Steps) -> Shape:
        """Return the shape at a path below, which exists."""
        shape: Shape | None = self
        for step in path:
            assert shape is not None
            shape = shape.item if isinstance(step, int) else shape.keys.get(step, shape.rest)
        assert shape is not None
        return shape

    def default(self, key: str) -> Any:
        """Return the value of a key that is not written; None for none."""
        shape = self.keys[key]
        return _default(shape, shape.schema["default"]) if "default" in shape.schema else None

    def filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a section with its defaults."""
        return {key: given.get(key, self.default(key)) for key in self.keys}


def _default(shape: Shape, value: Any) -> Any:
    if isinstance(value, list) and shape.item:
        return tuple(_default(shape.item, item) for item in value)
    text, leaf = value if isinstance(value, str) else json.dumps(value), shape.leaf or {}
    return PARSERS[leaf["x-kind"]](text, Scalar("", text), leaf)


@cache
def shape_of(name: Name) -> Shape:
    schema = document(name)
    return _compiled(schema, schema["definitions"])


def _compiled(schema: Schema, definitions: Schema) -> Shape:
    def followed(schema: Schema) -> Schema:
        if "$ref" not in schema:
            return schema
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return {**followed(definitions[schema["$ref"].rpartition("/")[2]]), **own}

    schema = followed(schema)
    shape = Shape(schema)
    others = () if "x-kind" in schema else map(followed, schema.get("anyOf", ()))
    for sort in (schema, *others):
        if "x-kind" in sort:
            shape.leaf = sort
        elif sort.get("type") == "array":
            shape.item = _compiled(sort["items"], definitions)
        elif sort.get("type") == "object":
            shape.fixed = sort
            keys = sort.get("properties", {})
            shape.keys = {key: _compiled(value, definitions) for key, value in keys.items()}
            if sort["additionalProperties"]:
                shape.names = _compiled(sort["propertyNames"], definitions)
                shape.rest = _compiled(sort["additionalProperties"], definitions)
    return shape


def _broken_rules(schema: Schema, keys: Collection[str]) -> Iterator[str]:
    """Iterate over the messages of the rules that a mapping with these keys breaks."""
    words = {"minProperties": "is an empty mapping", **schema.get("x-says", {})}
    if len(keys) < schema.get("minProperties", 0):
        yield words["minProperties"]
    elif "anyOf" in words and not any({*keys} >= {*one["required"]} for one in schema["anyOf"]):
        yield words["anyOf"]
    for key, others in schema.get("dependencies", {}).items():
        if key in keys and not {*keys} >= {*others}:
            yield words["dependencies"]


class Reader:
    """Reads one file: every value that is right, and every problem."""

    def __init__(
        self,
        name: Name,
        problems: Problems,
        variables: Variables,
        warnings: Problems,
        guesses: Guesses | None = None,
    ) -> None:
        self.shape = shape_of(name)
        #: In a tests file a `$` is a character like any other.
        self._is_plain = name == "routes.test"
        self.problems = problems
        self.warnings = warnings
        self.variables = variables
        self._guesses = guesses or Guesses()

    def read(self, tree: Tree) -> dict[str, Any]:
        """Return the values by their keys. A wrong value is None, in a list too; a list is a tuple,
        and so is a single value where a list may be."""
        values = self._value(tree.root, self.shape, ())
        return values if isinstance(values, dict) else {}

    def likely(self, word: str, names: Collection[str]) -> str | None:
        """Return the name probably meant by `word`. Fields are compared by their ends."""
        if not all(name.startswith(_FIELD) for name in names):
            return self._guesses.likely(word, names)
        short = {name.removeprefix(_FIELD): name for name in names}
        return short.get(self._guesses.likely(word.removeprefix(_FIELD), short) or "")

    def _value(self, node: Node, shape: Shape, path: Steps) -> Any:
        if not shape.takes(node):
            self.problems.report(node, path, shape.mismatch(node))
            return None
        if isinstance(node, Scalar):
            value = self._scalar(node, shape, path)
            return value if shape.item is None or value is None else (value,)
        if isinstance(node, MapNode):
            return self._names(node, shape, path) if shape.rest else self._keys(node, shape, path)
        assert shape.item is not None
        if not node.value:
            self.problems.report(node, path, "is an empty list")
        items = enumerate(node.value)
        return tuple(self._value(item, shape.item, (*path, at)) for at, item in items)

    def _names(self, node: MapNode, shape: Shape, path: Steps) -> dict[str, Any]:
        """Read a mapping whose keys are names."""
        assert shape.names is not None
        assert shape.rest is not None
        values: dict[str, Any] = {}
        texts: set[str] = set()
        for message in _broken_rules(shape.fixed, node.value):
            self.problems.report(node, path, message)
        for key, value in node.value:
            where = (*path, key.value)
            name = self._scalar(key, shape.names, where, resolve=False) or key.value
            # The document has reported a key that is written twice in the same way.
            if name in values and key.value not in texts:
                self.problems.report(key, where, f"{shown(name)} is here twice")
            texts.add(key.value)
            values[name] = self._value(value, shape.rest, where)
        return values

    def _keys(self, node: MapNode, shape: Shape, path: Steps) -> dict[str, Any]:
        """Read a mapping with fixed keys."""
        values: dict[str, Any] = {}
        #: The keys that unknown ones were probably meant for: they are not missing.
        meant: list[str | None] = []
        for key, value in node.value:
            if key.value in shape.keys:
                below = shape.keys[key.value]
                values[key.value] = self._value(value, below, (*path, key.value))
            else:
                likely = self.likely(key.value, shape.keys)
                hint = did_you_mean(likely) or f"; there are {', '.join(shape.keys)}"
                message = f"{shape.fixed.get('x-unknown', 'unknown key')} {shown(key.value)}{hint}"
                self.problems.report(key, path, message)
                meant.append(likely)
        for message in _broken_rules(shape.fixed, [key.value for key, _ in node.value]):
            self.problems.report(node, path, message)
        for name in shape.fixed.get("required", ()):
            if name not in values and name not in meant:
                self.problems.report(node, path, f"the key {shown(name)} is missing")
        return values

    def _scalar(self, node: Scalar, shape: Shape, path: Steps, *, resolve: bool = True) -> Any:
        """Return the value of a scalar, or None after reporting a problem."""
        schema = shape.leaf or {}
        try:
            if not node.value:
                raise mismatch(node, expected(schema))
            secret = bool(schema.get("x-secret"))
            # Problems name an owner, so no variable can stand for one.
            resolve = resolve and schema["x-kind"] != "owner"
            text = self._resolved(node, path, secret) if resolve else node.value
            return PARSERS[schema["x-kind"]](text, node, schema)
        except Fault as error:
            fault = (anchored(node.value) if schema["x-kind"] == "pattern" else None) or error
            likely = did_you_mean(self.likely(fault.word, fault.words) if fault.words else None)
            self.problems.report(node, path, f"{fault}{likely}", once=fault.once)
            return None

    def _resolved(self, node: Scalar, path: Steps, may_be_secret: bool) -> str:
        """Return a scalar's text with its variables replaced."""
        text: str = node.value
        if "$" not in text or self._is_plain:
            return text
        try:
            resolved = self.variables.resolve(text, may_be_secret=may_be_secret)
        except Unresolved as error:
            raise Fault(str(error), once=error.once) from None
        for name in _FILE.findall(text):
            if name in self.variables.exposed:
                message = (
                    f"everybody on this machine can read the file {shown(name)}: chmod 600; it has "
                    "to belong to the user that the router runs as"
                )
                self.warnings.report(node, path, message)
        return resolved


def is_own(header: str) -> bool:
    """True if the router alone sets this header; the name is in lower case."""
    pattern = document("routes")["definitions"]["header_name"]["pattern"]
    return not re.search(pattern, header)
