"""The door to jsonschema, the reference: it checks a schema, and words what is wrong with a value.

It takes some 25 µs to find nothing wrong with an event: see quick.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from jsonschema import ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, extend, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from router.contract.schema.fault import FaultKind, SchemaFault
from router.contract.schema.quick import finder, is_unique
from router.model import StartFailed

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


class Reference:
    """A JSON Schema, valid and without references to other places."""

    def __init__(self, document: Any, name: str) -> None:
        """Raises StartFailed, which names the place, for anything that is no usable schema."""
        if not isinstance(document, dict | bool):
            raise StartFailed(f"{name}: a schema is a JSON object")
        dialect = _dialect(document, name)
        _check_parts(document, dialect.META_SCHEMA["$schema"], name)
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
        except (ArithmeticError, RecursionError):
            yield SchemaFault((), "rule", keyword="not computable")


def _dialect(document: dict[str, Any] | bool, name: str) -> Any:
    uri = document.get("$schema") if isinstance(document, dict) else None
    dialect: Any = Draft202012Validator
    if uri is not None:
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


def _check_parts(document: Any, dialect: str, name: str) -> None:
    """Raises StartFailed for the first part that is valid, but can't be used."""
    resource = Resource.from_contents(document, default_specification=specification_with(dialect))
    base = resource.id() or ""
    registry: Registry[Any] = Registry().with_resource(base, resource)
    waiting = [(resource, registry.resolver(base))]
    keywords: set[str] = set()
    while waiting:
        part, resolver = waiting.pop()
        if isinstance(part.contents, dict):
            keywords |= part.contents.keys()
            trouble = _trouble(part.contents, resolver, is_top=part is resource)
            if trouble:
                place = _pointer(_path_to(part.contents, document) or ())
                raise StartFailed(f"{name}: at {place}: {trouble}")
        waiting += [(sub, resolver.in_subresource(sub)) for sub in part.subresources()]
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        # The reference alone knows what is unevaluated, and asks patterns that may backtrack.
        raise StartFailed(f"{name}: patternProperties and unevaluatedProperties in one schema")


def _trouble(schema: dict[str, Any], resolver: Any, *, is_top: bool) -> str:
    """Why a schema can't be used, its own parts aside; `""` where it can."""
    broken = _broken_reference(schema, resolver)
    if broken is not None:
        keyword, reference = broken
        return (
            f"{keyword} {json.dumps(reference)} leads out of this file or nowhere;"
            " nothing is fetched: put what it means under $defs"
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


def _broken_reference(schema: dict[str, Any], resolver: Any) -> tuple[str, str] | None:
    for keyword in ("$ref", "$dynamicRef"):
        reference = schema.get(keyword)
        if not isinstance(reference, str):
            continue
        try:
            resolver.lookup(reference)
        except Unresolvable:
            return keyword, reference
    return None


def _path_to(part: Any, whole: Any) -> tuple[str | int, ...] | None:
    """Where `part`, the very object, stands in `whole`."""
    if part is whole:
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
        yield SchemaFault(path, _KINDS.get(keyword, "rule"), keyword=keyword)


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
