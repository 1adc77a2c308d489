"""The door to jsonschema, the reference: it checks a schema, and words what is wrong with a value.

It takes some 25 µs to find nothing wrong with an event: see quick.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from typing import Any, NamedTuple, cast

from jsonschema import ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import (
    Draft3Validator,
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft202012Validator,
    extend,
    validator_for,
)
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from router.contract.schema.quick import FaultKind, SchemaFault, finder, is_unique
from router.model.errors import StartFailed

#: The most that is repeated of the validator's own words, in characters.
_MAX_SAID = 200

#: What a failed keyword says of a value; any other keyword is a `rule`.
_KINDS: dict[str, FaultKind] = {
    "type": "type",
    "enum": "value",
    "const": "value",
    "minimum": "value",
    "maximum": "value",
    "exclusiveMinimum": "value",
    "exclusiveMaximum": "value",
    "pattern": "format",
    "format": "format",
    "minLength": "size",
    "maxLength": "size",
    "minItems": "size",
    "maxItems": "size",
}


#: Dialects in which all that stands beside a `$ref` counts for nothing.
_ALONE = (Draft3Validator, Draft4Validator, Draft6Validator, Draft7Validator)

#: Keywords whose schemas judge the value that theirs does, by themselves, in a list, or by name.
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not")
_IN_PLACE_BY_NAME = ("dependentSchemas", "dependencies")


class Reference:
    """A JSON Schema, valid and without references to other places."""

    def __init__(self, document: Any, name: str) -> None:
        """Raises StartFailed, which names the place, for anything that is no usable schema."""
        if not isinstance(document, dict | bool):
            raise StartFailed(f"{name}: a schema is a JSON object")
        dialect = _dialect(document, name)
        _check_parts(document, dialect, name)
        if isinstance(document, dict):
            # By its `$schema` a part that refers to the whole would get the validator as it comes.
            document = {key: value for key, value in document.items() if key != "$schema"}
        made: Any = extend(dialect, _IN_LINEAR_TIME)  # type: ignore[no-untyped-call]
        self._validator = made(document, registry=Registry())

    def faults(self, value: Any) -> Iterator[SchemaFault]:
        """See `Schema.faults`."""
        try:
            for error in self._validator.iter_errors(value):
                yield from _faults_of(error)
        except BaseException as error:
            if not (isinstance(error, ArithmeticError | RecursionError) or _is_panic(error)):
                raise
            yield SchemaFault((), "rule", keyword="not computable")


def _is_panic(error: BaseException) -> bool:
    """A RecursionError that came while rpds, which jsonschema finds references by, was asked."""
    return type(error).__name__ == "PanicException"


def _dialect(document: dict[str, Any] | bool, name: str) -> Any:
    dialect: Any = Draft202012Validator
    if isinstance(document, dict) and "$schema" in document:
        dialect = None
        with suppress(AttributeError, TypeError, ValueError):  # for one that is no URI
            dialect = validator_for(document, default=cast(Any, None))
    if dialect is None:
        raise StartFailed(f"{name}: at /$schema: an unknown dialect of JSON Schema")
    try:
        dialect.check_schema(document)
    except SchemaError as error:
        place = _pointer(error.absolute_path)
        said = " ".join(error.message.split())[:_MAX_SAID]
        raise StartFailed(f"{name}: at {place}: no valid schema: {said}") from None
    return dialect


def _check_parts(document: Any, dialect: Any, name: str) -> None:
    """Raises StartFailed for the first part that is valid, but can't be used."""
    try:
        parts = _parts(document, dialect)
    except (AttributeError, TypeError, ValueError):
        raise StartFailed(f"{name}: an $id or a reference in it is no URI") from None
    keywords = {keyword for part in parts.values() for keyword in part.contents}
    for part in parts.values():
        trouble = _trouble(part, is_top=part.contents is document)
        if trouble:
            raise StartFailed(f"{name}: at {_place_of(id(part.contents), document)}: {trouble}")
    try:
        TopologicalSorter({at: part.in_place for at, part in parts.items()}).prepare()
    except CycleError as error:
        place = _place_of(error.args[1][0], document)
        raise StartFailed(f"{name}: at {place}: what it refers to refers to it") from None
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        # The reference alone knows what is unevaluated, and asks patterns that may backtrack.
        raise StartFailed(f"{name}: patternProperties and unevaluatedProperties in one schema")


class _Part(NamedTuple):
    """A schema, the whole or one in it, that is not only true or false."""

    contents: dict[str, Any]
    #: By keyword, where each of its references leads; None: out of the file, or to no schema.
    references: dict[str, Any]
    #: Whether a reference is all that counts, as in old dialects.
    refers_alone: bool

    @property
    def in_place(self) -> list[int]:
        """The `id` of each that judges the very same value."""
        contents = {} if self.refers_alone else self.contents
        inner = [contents.get(keyword) for keyword in _IN_PLACE]
        if "if" in contents:
            inner += [contents["if"], contents.get("then"), contents.get("else")]
        named = [contents.get(keyword) for keyword in _IN_PLACE_BY_NAME]
        lists = [each for each in inner if isinstance(each, list)]
        dicts = [each.values() for each in named if isinstance(each, dict)]
        return [id(each) for each in chain(inner, self.references.values(), *lists, *dicts)]


def _parts(document: Any, dialect: Any) -> dict[int, _Part]:
    """All schemas in it by their `id`, those included that are only found by a reference."""
    kind = specification_with(dialect.META_SCHEMA["$schema"])
    resource = Resource.from_contents(document, default_specification=kind)
    base = resource.id() or ""
    registry: Registry[Any] = Registry().with_resource(base, resource)
    waiting: list[tuple[Resource[Any], Any]] = [(resource, registry.resolver(base))]
    parts: dict[int, _Part] = {}
    sound = {id(document)}
    while waiting:
        part, resolver = waiting.pop()
        waiting += [(sub, resolver.in_subresource(sub)) for sub in part.subresources()]
        schema = part.contents
        if isinstance(schema, dict) and id(schema) not in parts:
            found = _references(schema, resolver, dialect, sound)
            leads = {keyword: each and each.contents for keyword, each in found.items()}
            parts[id(schema)] = _Part(schema, leads, "$ref" in schema and dialect in _ALONE)
            waiting += [
                (kind.create_resource(each.contents), each.resolver)
                for each in found.values()
                if each is not None and id(each.contents) not in parts
            ]
    return parts


def _references(
    schema: dict[str, Any], resolver: Any, dialect: Any, sound: set[int]
) -> dict[str, Any]:
    """What is found by each reference of a schema; None for what is no schema. `sound` gets the
    `id` of each that is one: many may refer to it."""
    found: dict[str, Any] = {}
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(schema.get(keyword), str):
            found[keyword] = None
            with suppress(Unresolvable, ValueError, SchemaError):  # ValueError for "#/allOf/x"
                leads = resolver.lookup(schema[keyword])
                if id(leads.contents) not in sound:
                    dialect.check_schema(leads.contents)
                    sound.add(id(leads.contents))
                found[keyword] = leads
    return found


def _trouble(part: _Part, *, is_top: bool) -> str:
    """Why a schema can't be used, its own parts aside; `""` where it can."""
    schema = part.contents
    for keyword, found in part.references.items():
        if found is None:
            return (
                f"{keyword} {json.dumps(schema[keyword])} leads out of this file, or to no schema"
                " in it; nothing is fetched: put what it means under $defs"
            )
    if "$schema" in schema and not is_top:
        return "a $schema of its own: a file has one, at its top"
    for pattern in (schema.get("pattern"), *schema.get("patternProperties", ())):
        if isinstance(pattern, str) and finder(pattern) is None:
            return (
                f"the pattern {json.dumps(pattern)} can't be matched in a time that grows with"
                " the text alone: no look-around, no back-reference, no huge repetition"
            )
    return ""


def _place_of(part: int, document: Any) -> str:
    return _pointer(_path_to(part, document) or ())


def _path_to(part: int, whole: Any) -> tuple[str | int, ...] | None:
    """Where the object with that `id` stands in `whole`."""
    if part == id(whole):
        return ()
    members: Any = ()
    if isinstance(whole, dict):
        members = whole.items()
    elif isinstance(whole, list):
        members = enumerate(whole)
    for step, member in members:
        path = _path_to(part, member)
        if path is not None:
            return (step, *path)
    return None


def _pointer(path: Any) -> str:
    return "/" + "/".join(str(step) for step in path)


def _faults_of(error: ValidationError) -> Iterator[SchemaFault]:
    path = tuple(error.absolute_path)
    keyword = str(error.validator)
    wanted: Any = error.validator_value
    if keyword == "required":
        for member in wanted:
            if member not in cast(Any, error.instance):
                yield SchemaFault((*path, member), "absent", keyword=keyword)
    elif error.instance is None or error.instance == "":
        yield SchemaFault(path, "absent", keyword=keyword)
    elif keyword == "type":
        types = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        yield SchemaFault(path, "type", expected=types, keyword=keyword)
    elif keyword == "additionalProperties" and isinstance(error.instance, dict):
        for member in _not_listed(error.instance, cast(Any, error.schema)):
            yield SchemaFault((*path, member), "unknown", keyword=keyword)
    else:
        kind = _KINDS.get(keyword, "rule")
        bound = int(wanted) if kind == "size" else 0
        yield SchemaFault(path, kind, keyword=keyword, bound=bound)


def _not_listed(members: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    listed = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for member in members:
        if member not in listed and not any(_fits(pattern, member) for pattern in patterns):
            yield member


def _fits(pattern: str, text: str) -> bool:
    finds = finder(pattern)
    return finds is not None and finds(text)


_Errors = Iterator[ValidationError]


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> _Errors:
    if validator.is_type(value, "string") and not _fits(pattern, value):
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> _Errors:
    if validator.is_type(value, "object"):
        for pattern, below in patterns.items():
            for member in value:
                if _fits(pattern, member):
                    yield from validator.descend(value[member], below, member, pattern)


def _additional_properties(validator: Any, below: Any, value: Any, schema: Any) -> _Errors:
    if not validator.is_type(value, "object"):
        return
    others = [*_not_listed(value, schema)]
    if below is False and others:
        yield ValidationError("has others")
    elif isinstance(below, dict):
        for member in others:
            yield from validator.descend(value[member], below, member)


def _unique_items(validator: Any, wanted: bool, value: Any, schema: Any) -> _Errors:
    if wanted and validator.is_type(value, "array") and not is_unique(value):
        yield ValidationError("has one twice")


#: Keywords for which `jsonschema` itself may take a time that explodes, or grows by the square.
_IN_LINEAR_TIME = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
