"""Schemas: faults have their place and kind, and no value takes long."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from router.contract.schema import Schema
from router.model.errors import StartFailed

#: Python's own expressions would take longer for it than there are years.
SLOW = "a" * 50 + "b"


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"pattern": "^(a+)+$"}, SLOW),
        ({"uniqueItems": True}, [0, *(x for n in range(50_000) for x in (n, str(n), [n]))]),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {SLOW: 1}),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "properties": {"a": {"$ref": "#"}},
                "pattern": "^(a+)+$",
            },
            {"a": SLOW},
        ),
    ],
)
def test_no_value_makes_a_rule_take_long(document: dict[str, Any], value: Any) -> None:
    """Backtracking, or comparing each item with all others, would take minutes."""
    assert faults_at_once(document, value)


def faults_at_once(document: dict[str, Any], value: Any) -> bool:
    began = time.thread_time()
    found = list(Schema(document, "s.json").faults(value))
    return bool(found) and time.thread_time() - began < 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type": "strng"}', "s.json: at /type: not a valid schema"),
        ('{"pattern": "(?=a)b"}', "s.json: at /pattern: not a valid schema: "),
        (r'{"items": {"pattern": "(a)\\1"}}', "cannot have look-around or back-references"),
        ('{"items": {"$ref": "other.json"}}', "put the referenced schema under $defs"),
        ('{"items": {"$ref": "http://127.0.0.1:9/"}}', "nothing is fetched"),
        ('{"items": {"$ref": "#/$defs/none"}}', "'/$defs/none' does not exist"),
        ('{"items": {"$ref": "#/x"}, "x": {"type": 5}}', "s.json: at /x/type: "),
        ('{"$schema": 5}', "at /$schema: not a valid schema: 5 is not of type"),
        ('{"$schema": "http://json-schema.org/draft-03/schema#"}', "Unknown meta-schema"),
        ('{"$id": "urn:a", "items": {"$id": "http://["}}', "Invalid URI"),
        ('{"type": "object"', "s.json: not JSON at line 1 column 18"),
        ("[]", "s.json: a schema is a JSON object"),
        ("[" * 100_000, "s.json: nested more than 64 deep"),
        ("\udcff", "s.json: not UTF-8 at byte 0"),
    ],
)
def test_a_schema_that_cannot_be_used_ends_the_start(tmp_path: Path, text: str, says: str) -> None:
    """The message is one line with the place and the fault."""
    file = tmp_path / "s.json"
    file.write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(StartFailed) as refused:
        Schema.load(file)
    assert says in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("many", [{"changes": [1] * 200_000}, {str(n): 1 for n in range(200_000)}])
def test_a_body_full_of_faults_is_refused_quickly(many: dict[str, Any]) -> None:
    """A fault behind the part that is searched is found, too."""
    strings = {"type": "string"}
    document = {"additionalProperties": strings, "properties": {"changes": {"items": strings}}}
    assert faults_at_once(document, many)
    late = Schema({"properties": {"changes": {"items": strings, "minItems": 50}}}, "s.json")
    value = {"changes": [*("x" * 100), 1]}
    assert [fault.path for fault in late.faults(value)] == [("changes", 100)]
    assert list(late.faults({"changes": ["x"] * 100})) == []


@pytest.mark.parametrize(
    ("document", "value", "fault"),
    [
        ({"required": ["a"]}, {}, (("a",), "absent")),
        ({"properties": {"a": {"minLength": 1}}}, {"a": ""}, (("a",), "absent")),
        ({"items": {"type": ["string", "null"]}}, ["b", 0], ((1,), "type")),
        ({"enum": [1, 2]}, 3, ((), "value")),
        ({"exclusiveMaximum": 3}, 3, ((), "value")),
        ({"pattern": "^a$"}, "b", ((), "format")),
        ({"maxItems": 1}, [1, 2], ((), "size")),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, (("b",), "unknown")),
        ({"properties": {"a": {"$ref": "#"}}, "type": "object"}, {"a": 1}, (("a",), "type")),
        ({"multipleOf": 2}, 3, ((), "rule")),
    ],
)
def test_a_fault_has_its_place_and_kind(document: Any, value: Any, fault: Any) -> None:
    """A member that is missing, or that may not be there, is the place itself."""
    (shown,) = Schema(document, "s.json").faults(value)
    assert (shown.path, shown.kind) == fault
