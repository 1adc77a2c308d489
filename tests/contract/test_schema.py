"""Schemas: our validator agrees with the reference implementation, and takes linear time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from router.contract.schema import Schema, shipped_schema
from router.model.errors import StartFailed
from tests.support.effort import examples
from tests.support.receivers import answering, serving

NAMES = ("a", "event_key", "changes", "é")
TYPES = ("string", "null", "boolean", "integer", "number", "array", "object")

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**53 - 1, max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, 0.0, -0.0, 1.0, 1e300, "", "0", "é", "e\u0301", "\U0001f600"]),
    st.text(max_size=4),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
sizes = st.integers(0, 4)


def _keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.one_of(
                st.sampled_from(TYPES),
                st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
            ),
            "enum": st.lists(values, min_size=1, max_size=3),
            "const": values,
            "minLength": sizes,
            "maxLength": sizes,
            "required": st.lists(st.sampled_from(NAMES), max_size=3, unique=True),
            "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            "additionalProperties": inner,
            "minProperties": sizes,
            "maxProperties": sizes,
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=3),
            "minItems": sizes,
            "maxItems": sizes,
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    )


schemas = st.recursive(st.booleans(), _keywords, max_leaves=5)


@examples(100)
@given(schemas, values)
def test_the_two_validators_agree(document: Any, value: Any) -> None:
    """Our validator and the reference agree about any schema and value."""
    faults = list(Schema(document, "s.json").faults(value))
    assert (faults == []) is Draft202012Validator(document).is_valid(value)


@examples(100)
@given(st.dictionaries(st.sampled_from([*NAMES, "event_source", "event_topic"]), values))
def test_they_agree_on_the_contract(value: dict[str, Any]) -> None:
    """The shipped schema, and objects that are nearly callbacks."""
    path = shipped_schema("callback.schema.json")
    usual = {"event_source": "a", "event_topic": "b", "event_type": "c", "event_status": "1"}
    value = {**usual, "changes": [], **value}
    expected = Draft202012Validator(json.loads(path.read_text())).is_valid(value)
    assert (list(Schema.load(path).faults(value)) == []) is expected


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


def test_a_schema_may_refer_to_itself_further_down() -> None:
    """A schema may be recursive, as for a tree."""
    tree = Schema({"properties": {"next": {"$ref": "#"}, "name": {"type": "string"}}}, "s.json")
    assert [*tree.faults({"next": {"next": {"name": "a"}}})] == []
    (fault,) = tree.faults({"next": {"next": {"name": 1}}})
    assert fault.path == ("next", "next", "name")


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
        ({"multipleOf": 2}, 3, ((), "rule")),
    ],
)
def test_a_fault_has_its_place_and_kind(document: Any, value: Any, fault: Any) -> None:
    """A member that is missing, or that may not be there, is the place itself."""
    (shown,) = Schema(document, "s.json").faults(value)
    assert (shown.path, shown.kind) == fault


def test_nothing_is_fetched() -> None:
    """A reference to another place is refused without a request to it."""
    with serving(answering({})) as url, pytest.raises(StartFailed, match="nothing is fetched"):
        Schema({"items": {"$ref": url}}, "s.json")
