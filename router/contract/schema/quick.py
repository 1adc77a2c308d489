"""The quick validator, which accepts most callbacks, and the type of a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import jsonschema_rs

#: Whether a value is valid.
Validity = Callable[[Any], bool]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: The keywords that both validators read alike, on any value that strict JSON lets through. Not
#: among them: formats, comparisons of numbers, references.
_ALIKE = frozenset(
    {
        *("$schema", "$id", "$comment", "title", "description", "default", "examples"),
        *("type", "enum", "const", "minLength", "maxLength", "pattern"),
        *("required", "properties", "additionalProperties", "minProperties", "maxProperties"),
        *("items", "prefixItems", "minItems", "maxItems"),
        *("allOf", "anyOf", "not"),
    }
)

#: What of a keyword's value is a schema in turn.
_PARTS: dict[str, Callable[[Any], Iterable[Any]]] = {
    **dict.fromkeys(("additionalProperties", "items", "not"), lambda one: [one]),
    **dict.fromkeys(("prefixItems", "allOf", "anyOf"), iter),
    "properties": dict.values,
}


def validity(document: Any) -> Validity | None:
    """By a schema that is valid, as the reference would judge; None where the two may differ."""
    linear = jsonschema_rs.RegexOptions()
    try:
        validator = jsonschema_rs.Draft202012Validator(document, pattern_options=linear)
    except ValueError:  # it is stricter about what an `$id` may be
        return None
    return validator.is_valid if _is_alike(document) else None


def _is_alike(document: Any) -> bool:
    """Whether there are but keywords in it, and its parts, that both validators read alike."""
    if isinstance(document, dict) and document.get("$schema", _DIALECT) != _DIALECT:
        return False
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, bool):
            continue
        if not part.keys() <= _ALIKE:
            return False
        for keyword in part.keys() & _PARTS.keys():
            waiting += _PARTS[keyword](part[keyword])
    return True


@lru_cache(1024)
def finder(pattern: str) -> Validity | None:
    """What finds a pattern somewhere in a text, by no backtracking; None where only that could."""
    return validity({"pattern": pattern})


#: Whether a list has no item twice.
is_unique = jsonschema_rs.Draft202012Validator({"uniqueItems": True}).is_valid


FaultKind = Literal["absent", "type", "value", "format", "size", "unknown", "rule"]


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """One place where a value breaks a schema."""

    #: Member names and list positions from the top; empty for the value as a whole.
    path: tuple[str | int, ...]
    kind: FaultKind
    #: The JSON types that were expected, for the kind `type`.
    expected: tuple[str, ...] = ()
    #: The schema's keyword that failed, for the log.
    keyword: str = ""
    #: What the schema allows, for the kind `size`: at most, or where it says `min…`, at least.
    bound: int = 0

    @property
    def is_too_small(self) -> bool:
        return self.keyword.startswith("min")
