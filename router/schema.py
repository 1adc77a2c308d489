"""The door to JSON Schema: a schema file read and checked once, and what it finds in a value.

`jsonschema` is the reference, and words what is wrong. It takes some 25 µs to find nothing wrong
with an event; where a schema has only keywords that `jsonschema-rs` reads the same way, that one
lets the good ones pass in 0.3 µs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import jsonschema_rs
from jsonschema import ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from router.errors import StartFailed

#: Where the schemas are in an installed package, and in a checkout.
_FOLDERS = (Path(__file__).parent / "schemas", Path(__file__).parent.parent / "schemas")

#: The most that is repeated of the validator's own words, in characters.
_MAX_SAID = 200

#: The keywords that both validators read alike, on any value that strict JSON lets through. Not
#: among them: regular expressions, formats, comparisons of numbers, references.
_ALIKE = frozenset(
    {
        *("$schema", "$id", "$comment", "title", "description", "default", "examples"),
        *("type", "enum", "const", "minLength", "maxLength"),
        *("required", "properties", "additionalProperties", "minProperties", "maxProperties"),
        *("items", "prefixItems", "minItems", "maxItems"),
        *("allOf", "anyOf", "not"),
    }
)

FaultKind = Literal["absent", "type", "value", "format", "size", "unknown", "rule"]

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


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where a value breaks a schema."""

    #: Member names and list positions from the top; empty for the value as a whole.
    path: tuple[str | int, ...]
    kind: FaultKind
    #: The JSON types that were expected, for the kind `type`.
    expected: tuple[str, ...] = ()
    #: The schema's keyword that failed, for the log.
    keyword: str = ""


def shipped_schema(name: str) -> Path:
    """A schema file of this project's own, by its file name."""
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise StartFailed(f"the installation is incomplete: {name} is missing")


class Schema:
    """A JSON Schema, valid and without references to other places."""

    def __init__(self, document: Any, name: str) -> None:
        """Raises StartFailed, which names the place, for anything that is no usable schema."""
        if not isinstance(document, dict | bool):
            raise StartFailed(f"{name}: a schema is a JSON object")
        dialect = _dialect(document, name)
        _check_references(document, dialect.META_SCHEMA["$schema"], name)
        self._validator = dialect(document, registry=Registry())
        self._passes = _gate(document) if dialect is Draft202012Validator else None

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a schema file. Raises StartFailed with one line that names the file and place."""
        # One of the project's own is nobody's path.
        name = path.name if path.parent in _FOLDERS else str(path)
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise StartFailed(f"{name}: not UTF-8") from None
        except OSError as error:
            raise StartFailed(f"{name}: can't be read: {error.strerror}") from None
        try:
            return cls(json.loads(text), name)
        except json.JSONDecodeError as error:
            raise StartFailed(
                f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}"
            ) from None
        except ValueError:  # int() refuses more digits than sys.get_int_max_str_digits()
            raise StartFailed(f"{name}: a number with too many digits") from None
        except RecursionError:
            raise StartFailed(f"{name}: nested too deeply") from None

    def faults(self, value: Any) -> Iterator[Fault]:
        """Every fault of `value`, in no promised order; none means it is valid.

        Raises nothing: what a rule can't even compute, such as a multiple of a huge number,
        counts as a fault of the whole.
        """
        if self._passes is not None and self._passes(value):
            return iter(())
        return self._found(value)

    def _found(self, value: Any) -> Iterator[Fault]:
        try:
            for error in self._validator.iter_errors(value):
                yield from _faults_of(error)
        except (ArithmeticError, RecursionError):
            yield Fault((), "rule", keyword="not computable")


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


def _gate(document: Any) -> Callable[[Any], bool] | None:
    """Whether a value is valid, quickly; None where the two validators may differ."""
    waiting = [Resource.from_contents(document, default_specification=DRAFT202012)]
    while waiting:
        part = waiting.pop()
        if isinstance(part.contents, dict) and not part.contents.keys() <= _ALIKE:
            return None
        waiting += part.subresources()
    try:
        return jsonschema_rs.Draft202012Validator(document).is_valid
    except ValueError:  # it is stricter about what an `$id` may be
        return None


def _check_references(document: Any, dialect: str, name: str) -> None:
    resource = Resource.from_contents(document, default_specification=specification_with(dialect))
    base = resource.id() or ""
    registry: Registry[Any] = Registry().with_resource(base, resource)
    waiting = [(resource, registry.resolver(base))]
    while waiting:
        part, resolver = waiting.pop()
        if isinstance(part.contents, dict):
            broken = _broken_reference(part.contents, resolver)
            if broken is not None:
                keyword, reference = broken
                raise StartFailed(
                    f"{name}: at {_pointer(_path_to(part.contents, document) or ())}: {keyword}"
                    f" {json.dumps(reference)} leads out of this file or nowhere;"
                    " nothing is fetched: put what it means under $defs"
                )
        waiting += [(sub, resolver.in_subresource(sub)) for sub in part.subresources()]


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


def _faults_of(error: ValidationError) -> Iterator[Fault]:
    path = tuple(error.absolute_path)
    keyword = str(error.validator)
    wanted: Any = error.validator_value
    if keyword == "required":
        for member in wanted:
            if member not in cast(Any, error.instance):
                yield Fault((*path, member), "absent", keyword=keyword)
    elif error.instance is None or error.instance == "":
        yield Fault(path, "absent", keyword=keyword)
    elif keyword == "type":
        types = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        yield Fault(path, "type", expected=types, keyword=keyword)
    elif keyword == "additionalProperties" and isinstance(error.instance, dict):
        for member in _not_listed(error.instance, cast(Any, error.schema)):
            yield Fault((*path, member), "unknown", keyword=keyword)
    else:
        yield Fault(path, _KINDS.get(keyword, "rule"), keyword=keyword)


def _not_listed(members: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    listed = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for member in members:
        if member not in listed and not any(re.search(pattern, member) for pattern in patterns):
            yield member
