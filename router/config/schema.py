"""The schemas as the loader: jsonschema-rs judges a file's form by them, their kinds parse its
values, and a problem is worded by what they declare."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import jsonschema_rs

from router.config.document import (
    Guesses,
    ListNode,
    MapNode,
    Node,
    Path,
    Problems,
    Scalar,
    Shown,
    Tree,
    did_you_mean,
    lines,
    parse_document,
    path_of,
    plain,
    report,
    shown,
)
from router.config.values import PARSERS, Fault, Schema, anchored, expected, mismatch
from router.config.variables import Unresolved, Variables
from router.contract.schema import shipped_schema
from router.model.errors import ConfigInvalid

Name = Literal["routes", "routes.common", "routes.team", "routes.test", "tokens"]

#: Of a folder what is everybody's, and what is in its routes.d: the keys that a file has besides
#: those of routes.yaml, or instead of them. Only its version is required: the rest may be
#: elsewhere.
_MORE: dict[Name, tuple[str, ...]] = {"routes.common": ("share",)}
_INSTEAD: dict[Name, tuple[str, ...]] = {"routes.team": ("version", "owner", "targets", "routes")}

#: What the names of an event's fields begin with.
_FIELD = "event_"

_FILE = re.compile(r"\$\{file:([^{}]*)\}")


@cache
def document(name: Name) -> Schema:
    """A schema as an editor reads it."""
    derived = name in _MORE or name in _INSTEAD
    file = "routes.schema.json" if derived else f"{name}.schema.json"
    schema: Schema = json.loads(shipped_schema(file).read_text("utf-8"))
    if derived:
        every = {**schema["definitions"], **schema["properties"]}
        keys = _INSTEAD.get(name) or (*schema["properties"], *_MORE[name])
        schema |= {
            "$id": f"urn:ebaas-router:{name}.yaml",
            "title": f"ebaas-router {name}.yaml",
            "$comment": "Made of routes.schema.json by make docs.",
            "required": ["version"],
            "properties": {key: every[key] for key in keys},
        }
    return schema


@dataclass(slots=True)
class Shape:
    """What a schema says of one value, references followed. A value that may be of several sorts
    has more than one of a leaf, an item, and keys."""

    schema: Schema
    #: Of a scalar.
    leaf: Schema | None = None
    #: Of a list.
    item: Shape | None = None
    #: Of a mapping: its keys, or what its names and its values are.
    fixed: Schema | None = None
    keys: dict[str, Shape] = field(default_factory=dict)
    names: Shape | None = None
    rest: Shape | None = None

    @property
    def is_map(self) -> bool:
        return bool(self.keys) or self.rest is not None

    def parse(self, text: str, node: Scalar) -> Any:
        """The value of a scalar whose variables are replaced. Raises Fault."""
        assert self.leaf is not None
        return PARSERS[self.leaf["x-kind"]](text, node, self.leaf)

    def takes(self, node: Node) -> bool:
        """Whether a node is of a sort that may be here."""
        if isinstance(node, Scalar):
            return self.leaf is not None
        return self.is_map if isinstance(node, MapNode) else self.item is not None

    def mismatch(self, node: Node) -> str:
        """What is said of a node that is of none of these sorts."""
        if self.keys and (self.leaf is None or not isinstance(node, Scalar)):
            required = (self.fixed or {}).get("required") or [*self.keys]
            return str(mismatch(node, f"a mapping, like {{{required[0]}: …}},"))
        if self.rest is not None:
            return str(mismatch(node, "a mapping of names, like {name: …},"))
        what = expected(self.leaf) if self.leaf else "a list, like [one, other],"
        return str(mismatch(node, what))

    def at(self, path: Path) -> Shape | None:
        """What is at a path below."""
        shape: Shape | None = self
        for step in path:
            if shape is not None:
                below = shape.keys.get(str(step), shape.rest)
                shape = shape.item if isinstance(step, int) else below
        return shape

    def default(self, key: str) -> Any:
        """What a key has that is not written; None for none."""
        shape = self.keys[key]
        return _parsed(shape, shape.schema["default"]) if "default" in shape.schema else None

    def filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A section with its defaults."""
        return {key: given.get(key, self.default(key)) for key in self.keys}

    def words(self) -> Iterator[str]:
        """Every fixed key there is."""
        for key, shape in self.keys.items():
            yield key
            yield from shape.words()
        for below in (self.item, self.rest):
            yield from below.words() if below else ()


def _parsed(shape: Shape, value: Any) -> Any:
    if isinstance(value, list) and shape.item:
        return tuple(_parsed(shape.item, each) for each in value)
    text = value if isinstance(value, str) else json.dumps(value)
    return shape.parse(text, Scalar("", text))


@cache
def shape_of(name: Name) -> Shape:
    schema = document(name)
    return _compiled(schema, schema["definitions"])


class _Validator:
    """Judges a file's form: routes and targets one by one, since one call for 10,000 faulty ones
    holds every other thread for 1.5 s, and takes 100 MB."""

    def __init__(self, schema: Schema) -> None:
        self._whole = jsonschema_rs.validator_for(schema)
        head = {key: schema[key] for key in ("$schema", "definitions")}
        self._each = {
            key: jsonschema_rs.validator_for({**head, "$ref": f"#/definitions/{name}"})
            for key, name in (("routes", "route"), ("targets", "target"))
            if key in schema["properties"]
        }

    def errors(self, data: Any) -> Iterator[tuple[Path, Any]]:
        """Each error, and the path of the part that it is in."""
        rest, pieces = data, {}
        if isinstance(data, dict):
            rest, pieces = dict(data), self._each
        for key, validator in pieces.items():
            parts: list[tuple[str | int, Any]] = []
            if isinstance(found := data.get(key), list):
                parts, rest[key] = [*enumerate(found)], found[:1]
            elif isinstance(found, dict):
                parts = [*found.items()]
                rest[key] = dict(parts[:1])
            for step, part in parts:
                if not validator.is_valid(part):
                    yield from (((key, step), each) for each in validator.iter_errors(part))
        if not self._whole.is_valid(rest):
            yield from (((), each) for each in self._whole.iter_errors(rest))


@cache
def _validator_of(name: Name) -> _Validator:
    return _Validator(document(name))


def _compiled(schema: Schema, definitions: Schema) -> Shape:
    def followed(schema: Schema) -> Schema:
        if "$ref" not in schema:
            return schema
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return {**followed(definitions[schema["$ref"].rpartition("/")[2]]), **own}

    schema = followed(schema)
    shape = Shape(schema)
    others = () if "x-kind" in schema else map(followed, schema.get("anyOf", ()))
    for each in (schema, *others):
        if "x-kind" in each:
            shape.leaf = each
        elif each.get("type") == "array":
            shape.item = _compiled(each["items"], definitions)
        elif each.get("type") == "object":
            shape.fixed = each
            keys = each.get("properties", {})
            shape.keys = {key: _compiled(value, definitions) for key, value in keys.items()}
            if each["additionalProperties"]:
                shape.names = _compiled(each["propertyNames"], definitions)
                shape.rest = _compiled(each["additionalProperties"], definitions)
    return shape


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
        self._validator = _validator_of(name)
        self.problems = problems
        self.warnings = warnings
        self.variables = variables
        self._guesses = guesses or Guesses()
        #: Every scalar that was read, and whether it may be shown to whoever sees the terminal:
        #: each that reads it, by aliases, has to find it harmless. None: nobody asks.
        self.harmless: dict[Scalar, bool] | None = None

    def read(self, tree: Tree) -> dict[str, Any]:
        """The values by their keys; what is wrong is None, in a list too. A list is a tuple, and so
        is a single value where a list may be."""
        for start, error in self._validator.errors(plain(tree.root)):
            for each in _single(error):
                self._report_form(tree, start, each)
        read = self._value(tree.root, self.shape, "")
        return read if isinstance(read, dict) else {}

    def likely(self, word: str, names: Collection[str]) -> str | None:
        """The name that was probably meant by `word`; fields are told apart by their ends."""
        if not all(name.startswith(_FIELD) for name in names):
            return self._guesses.likely(word, names)
        short = {name.removeprefix(_FIELD): name for name in names}
        return short.get(self._guesses.likely(word.removeprefix(_FIELD), short) or "")

    def _value(self, node: Node, shape: Shape, path: str) -> Any:
        if isinstance(node, Scalar):
            value = self._scalar(node, shape, path) if shape.leaf else None
            return value if shape.item is None or value is None else (value,)
        if isinstance(node, ListNode):
            item = shape.item
            if item is None:
                return None
            each = enumerate(node.value)
            return tuple(self._value(value, item, f"{path}[{at}]") for at, value in each)
        return self._mapping(node, shape, path) if shape.is_map else None

    def _mapping(self, node: Node, shape: Shape, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        texts: set[str] = set()
        start = f"{path}." if path else ""
        for key, value in node.value:
            name = key.value
            if shape.names is not None and shape.rest is not None:
                where = f"{start}{shown(name)[1:-1]}"
                name = self._scalar(key, shape.names, where, resolve=False) or name
                # What is written alike is a key twice, which the document tells of.
                if name in found and key.value not in texts:
                    report(self.problems, key, where, f"{shown(name)} is here twice")
                texts.add(key.value)
                found[name] = self._value(value, shape.rest, where)
                continue
            self._judge(key, True)
            if name in shape.keys:
                found[name] = self._value(value, shape.keys[name], start + name)
        return found

    def _judge(self, node: Scalar, harmless: bool) -> None:
        if self.harmless is not None:
            self.harmless[node] = harmless and self.harmless.get(node, True)

    def _scalar(self, node: Scalar, shape: Shape, path: str, *, resolve: bool = True) -> Any:
        """What a scalar means, or None and a problem."""
        schema = shape.leaf or {}
        try:
            if not node.value:
                raise mismatch(node, expected(schema))
            self._judge(node, not schema.get("x-secret"))
            # Problems name an owner, so no variable can stand for one.
            resolve = resolve and schema["x-kind"] != "owner"
            secret = bool(schema.get("x-secret"))
            text = self._resolved(node, path, secret) if resolve else node.value
            return shape.parse(text, node)
        except Fault as error:
            odd = anchored(node.value) if schema["x-kind"] == "pattern" else None
            fault = odd or error
            likely = did_you_mean(self.likely(fault.word, fault.words) if fault.words else None)
            report(self.problems, node, path, f"{fault}{likely}", once=fault.once)
            return None

    def _resolved(self, node: Scalar, path: str, may_be_secret: bool) -> str:
        """A scalar's text with its variables replaced."""
        text: str = node.value
        if "$" not in text:
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
                report(self.warnings, node, path, message)
        return resolved

    # What is wrong with a file's form. A scalar is left to its parser, which has the last word: a
    # variable stands for more than a pattern knows.

    def _report_form(self, tree: Tree, start: Path, error: Any) -> None:
        path, keyword = [*start, *error.instance_path], _keyword(error)
        if keyword == "propertyNames":
            return
        shape, node = self.shape.at(path), tree.at(path)
        if shape is None or (isinstance(node, Scalar) and shape.leaf):
            return
        where = path_of(path)
        if not shape.takes(node):
            report(self.problems, node, where, shape.mismatch(node))
            return
        rule = shape.fixed if isinstance(node, MapNode) else None
        said = (rule or {}).get("x-says", {}).get(keyword)
        if keyword == "additionalProperties":
            self._report_unknown(node, shape, where)
        elif keyword == "required" and not said:
            name = error.kind.property
            unknown = (key.value for key, _ in node.value if key.value not in shape.keys)
            if name not in (self.likely(each, shape.keys) for each in unknown):
                report(self.problems, node, where, f"the key {shown(name)} is missing")
        elif said or keyword in _EMPTY:
            report(self.problems, node, where, said or _EMPTY[keyword])

    def _report_unknown(self, node: Node, shape: Shape, where: str) -> None:
        """Say of each key that is not there which one was probably meant."""
        what = (shape.fixed or {}).get("x-unknown", "unknown key")
        for key, _ in node.value:
            if key.value not in shape.keys:
                likely = self.likely(key.value, shape.keys)
                hint = did_you_mean(likely) or f"; there are {', '.join(shape.keys)}"
                report(self.problems, key, where, f"{what} {shown(key.value)}{hint}")


_EMPTY = {"minItems": "is an empty list", "minProperties": "is an empty mapping"}


def _single(error: Any) -> Iterator[Any]:
    """The errors that one is made of: of alternatives, all of those that are not met."""
    context = getattr(error.kind, "context", None)
    below = [each for branch in context or () for each in branch]
    if below and not all(_keyword(each) == "required" for each in below):
        for each in below:
            yield from _single(each)
    else:
        yield error


def _keyword(error: Any) -> str:
    """The keyword that failed, which is the last word of the schema's path that is one."""
    path = [str(step) for step in error.schema_path]
    return "propertyNames" if "propertyNames" in path else path[-1]


def is_own(header: str) -> bool:
    """Whether the router alone sets this header; the name is in lower case."""
    pattern = document("routes")["definitions"]["header_name"]["pattern"]
    return not re.search(pattern, header)


def legible_source(content: bytes, name: Name) -> Shown:
    """A file of a format, right or wrong: read once more, for what may be shown of it."""
    ignored = Problems("")
    reader = Reader(name, ignored, Variables({}, None), ignored)
    reader.harmless = {}
    # Without a tree nothing is known but the format's own words.
    with contextlib.suppress(ConfigInvalid):
        reader.read(parse_document(content, "", ignored))
    harmless = (node for node, may in reader.harmless.items() if may)
    return Shown(lines(content), {*reader.shape.words()}, harmless)
