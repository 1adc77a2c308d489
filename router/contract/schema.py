"""JSON Schemas: the contract's own, and an operator's, checked at the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs

from router.contract.strictjson import REQUEST, Unreadable, parse_json
from router.model.errors import StartFailed, why_not

#: The contract's own schema, by its file name.
CALLBACK_SCHEMA = "callback.schema.json"

#: The folders of the schemas in an installed package, and in a checkout.
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")

#: The longest part of the validator's own words that is repeated, in characters.
_MAX_MESSAGE = 200

#: The most items of a list, and members of an object, that are searched for faults: 200,000 faults
#: would take seconds, during which no other thread could run.
_MOST = 30

#: Keywords that may fail only because a list or an object was shortened.
_NEED_THE_REST = frozenset({"contains", "minItems", "minProperties", "required"})

#: Advice about a schema that cannot be used, by the keyword that failed.
_HINTS = {
    "format": "; patterns cannot have look-around or back-references",
    "$ref": "; nothing is fetched: put the referenced schema under $defs",
}

FaultKind = Literal["absent", "type", "value", "format", "size", "unknown", "rule"]

#: The kind of fault that a failed keyword is; any other keyword is a `rule`.
_KINDS: dict[str, FaultKind] = {
    "type": "type",
    **dict.fromkeys(("enum", "const", "minimum", "maximum"), "value"),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), "value"),
    **dict.fromkeys(("pattern", "format"), "format"),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), "size"),
}


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """A place where a value breaks a schema."""

    #: Member names and list positions from the top; empty for the value as a whole.
    path: tuple[str | int, ...]
    kind: FaultKind
    #: The expected JSON types, for the kind `type`.
    expected: tuple[str, ...] = ()
    #: The schema's keyword that failed.
    keyword: str = ""
    #: The limit, for the kind `size`: an upper one, or a lower one if `is_too_small`.
    bound: int = 0

    @property
    def is_too_small(self) -> bool:
        return self.keyword.startswith("min")


def shipped_schema(name: str) -> Path:
    """Return the path of a schema file of this project, by its file name."""
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise StartFailed(f"the installation is incomplete: {name} is missing")


class Schema:
    """A valid JSON Schema, of draft 4 or later, without references to other files.

    No value makes it take long: patterns are matched in linear time.
    """

    def __init__(self, document: Any, name: str) -> None:
        """Raises StartFailed, with the place, for anything that is not a usable schema."""
        if not isinstance(document, dict | bool):
            raise StartFailed(f"{name}: a schema is a JSON object")
        try:
            self._validator = jsonschema_rs.validator_for(
                document,
                validate_formats=False,
                pattern_options=jsonschema_rs.RegexOptions(),
                offline=True,
            )
        except jsonschema_rs.ValidationError as error:
            place = "".join(f"/{step}" for step in error.instance_path) or "/"
            message = " ".join(error.message.split())[:_MAX_MESSAGE]
            hint = _HINTS.get(error.kind.name, "")
            raise StartFailed(f"{name}: at {place}: not a valid schema: {message}{hint}") from None
        #: Returns whether a value is valid.
        self.passes = self._validator.is_valid

    @classmethod
    def shipped(cls) -> Schema:
        """Return the contract's own. Raises StartFailed."""
        return cls.load(shipped_schema(CALLBACK_SCHEMA))

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a schema file. Raises StartFailed with one line that names the place."""
        try:
            return cls(parse_json(path.read_bytes(), REQUEST), str(path))
        except OSError as error:
            raise StartFailed(f"{path}: can't be read: {why_not(path, error)}") from None
        except Unreadable as error:
            raise StartFailed(f"{path}: {error}") from None

    def faults(self, value: Any) -> Iterator[SchemaFault]:
        """Return the faults of a value, in any order. Of a large value not all are found, but at
        least one."""
        short, is_whole = _shortened(value)
        errors = [
            error
            for error in self._validator.iter_errors(short)
            if is_whole or error.kind.name not in _NEED_THE_REST
        ]
        if not errors and not is_whole:
            try:
                self._validator.validate(value)
            except jsonschema_rs.ValidationError as first:
                errors = [first]
        for error in errors:
            yield from _faults_of(error)


def _shortened(value: Any) -> tuple[Any, bool]:
    """Return the value with its lists and objects shortened, and whether none was longer."""
    if isinstance(value, list):
        parts = [_shortened(item) for item in value[:_MOST]]
        is_whole = len(value) <= _MOST and all(whole for _, whole in parts)
        return [part for part, _ in parts], is_whole
    if isinstance(value, dict):
        names = list(value)[:_MOST]
        members = {name: _shortened(value[name]) for name in names}
        is_whole = len(value) <= _MOST and all(whole for _, whole in members.values())
        return {name: part for name, (part, _) in members.items()}, is_whole
    return value, True


def _faults_of(error: jsonschema_rs.ValidationError) -> Iterator[SchemaFault]:
    path, keyword = tuple(error.instance_path), error.kind.name
    kind: Any = error.kind  # its attributes depend on the keyword
    if keyword == "required":
        yield SchemaFault((*path, kind.property), "absent", keyword=keyword)
    elif error.instance is None or error.instance == "":
        yield SchemaFault(path, "absent", keyword=keyword)
    elif keyword == "type":
        yield SchemaFault(path, "type", expected=tuple(kind.types), keyword=keyword)
    elif keyword == "additionalProperties":
        for member in kind.unexpected:
            yield SchemaFault((*path, member), "unknown", keyword=keyword)
    else:
        fault = _KINDS.get(keyword, "rule")
        bound = int(kind.limit) if fault == "size" else 0
        yield SchemaFault(path, fault, keyword=keyword, bound=bound)
