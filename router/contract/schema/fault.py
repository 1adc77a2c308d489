"""One place where a value breaks a schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
