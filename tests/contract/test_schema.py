"""The quick validator never lets pass what the reference refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft201909Validator, Draft202012Validator

from router.contract.schema import Schema, shipped_schema
from router.contract.schema.quick import SchemaFault
from router.model.errors import StartFailed
from tests.support.command import ROOT
from tests.support.effort import examples
from tests.support.house import SAMPLE

SEVEN, OLD = (each.META_SCHEMA["$schema"] for each in (Draft7Validator, Draft201909Validator))

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
    """Whatever schema an operator writes, and whatever comes: both let the same things pass."""
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


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"properties": {"a": {"format": "date"}}}, {}),
        ({"items": {"multipleOf": 0.1}}, []),
        ({"anyOf": [True, {"minimum": 1}]}, 2),
        ({"$defs": {"x": {"type": "string"}}, "$ref": "#/$defs/x"}, "x"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}, "x"),
    ],
)
def test_where_they_may_differ_the_reference_alone_decides(
    document: dict[str, Any], value: Any
) -> None:
    """Formats, arithmetic, references and older dialects."""
    schema = Schema(document, "s.json")
    assert not schema.passes(value)
    assert list(schema.faults(value)) == []


#: A process that reads the contract's schema and events by it.
READER = """
import sys
from router.contract.intake import Intake
intake = Intake.of(None)
intake.read(sys.argv[1].encode())
print("jsonschema" in sys.modules)
"""


def test_one_of_ours_that_is_none_is_found_at_once() -> None:
    """Somebody has edited it: a start says so, and not the first event."""
    with pytest.raises(StartFailed, match=r"^s\.json: at /type: no valid schema: "):
        Schema({"type": 5}, "s.json", is_ours=True)


def test_the_contract_is_read_by_the_quick_one_alone() -> None:
    """Good events need no reference, which takes 5 MB and 30 ms; nor does our own schema."""
    schema = shipped_schema("callback.schema.json")
    assert Schema(json.loads(schema.read_text()), "s.json").passes(json.loads(SAMPLE))
    ran = subprocess.run(
        [sys.executable, "-c", READER, SAMPLE.decode()], capture_output=True, check=True, cwd=ROOT
    )
    assert ran.stdout == b"False\n"


#: Python's own expressions would take longer for it than there are years.
SLOW = "a" * 50 + "b"


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"pattern": "^(a+)+$"}, SLOW),
        ({"multipleOf": 1, "pattern": "^(a+)+$"}, SLOW),
        ({"propertyNames": {"pattern": "^(a+)+$"}}, {SLOW: 1}),
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
    """What backtracks, or compares each with each, would take minutes at the least."""
    assert faults_at_once(document, value)


def test_many_items_do_not_make_a_rule_take_long() -> None:
    """Nor do so many, of which none is like another."""
    many = [0, *(x for n in range(50_000) for x in (n, str(n), [n]))]
    assert faults_at_once({"uniqueItems": True}, many)


def test_a_schema_may_refer_to_itself_further_down() -> None:
    """As one of a tree does."""
    tree = Schema({"properties": {"next": {"$ref": "#"}, "name": {"type": "string"}}}, "s.json")
    assert [*tree.faults({"next": {"next": {"name": "a"}}})] == []
    (fault,) = tree.faults({"next": {"next": {"name": 1}}})
    assert fault.path == ("next", "next", "name")


@pytest.mark.parametrize(
    "document",
    [
        {"$schema": SEVEN, "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "string"}}},
        {"items": {"$ref": "#/shared/a"}, "shared": {"a": {"type": "string"}}},
        {
            "$schema": SEVEN,
            "items": {"$ref": "#/definitions/a", "not": {"$ref": "#/items"}},
            "definitions": {"a": {"type": "string"}},
        },
        {"items": {"type": "string", "then": {"$ref": "#/items"}}},
    ],
)
def test_what_is_only_found_by_a_reference_is_a_schema_too(document: dict[str, Any]) -> None:
    """Wherever it stands; and a cycle is none where its dialect passes it over."""
    schema = Schema(document, "s.json")
    assert [*schema.faults(["a"])] == []
    assert [fault.path for fault in schema.faults([1])] == [(0,)]


def test_what_is_nested_too_deeply_for_a_rule_is_a_fault() -> None:
    """Wherever Python is at its end: in Rust it is a panic, which is no Exception."""
    schema, value = Schema({"properties": {"a": {"if": {"$ref": "#"}}}}, "s.json"), dict[str, Any]()
    for _ in range(600):
        value = {"a": value}

    def from_deeper(frames: int) -> list[SchemaFault]:
        return from_deeper(frames - 1) if frames else [*schema.faults(value)]

    for frames in range(40):
        assert [fault.keyword for fault in from_deeper(frames)] == ["not computable"]


def faults_at_once(document: dict[str, Any], value: Any) -> bool:
    began = time.thread_time()
    found = list(Schema(document, "s.json").faults(value))
    return bool(found) and time.thread_time() - began < 5


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"pattern": "(?=a)b"}, 's.json: at /: the pattern "(?=a)b" can\'t'),
        ({"items": {"pattern": r"(a)\1"}}, "s.json: at /items: the pattern"),
        ({"patternProperties": {"(?!a)": {}}}, "s.json: at /: the pattern"),
        ({"items": {"$id": "x", "$schema": Draft202012Validator.META_SCHEMA["$id"]}}, "at /items"),
        ({"patternProperties": {"a": {}}, "not": {"unevaluatedProperties": False}}, "in one"),
        ({"$ref": "#"}, "s.json: at /: what it refers to refers to it"),
        ({"$defs": {"a": {"anyOf": [True, {"$ref": "#/$defs/a"}]}}}, "at /$defs/a"),
        ({"dependentSchemas": {"a": {"not": {"$ref": "#"}}}}, "what it refers to refers to it"),
        ({"properties": {"a": {"$ref": "#/required"}}, "required": []}, "at /properties/a: $ref"),
        ({"items": {"$ref": "#/x"}, "x": {"type": 5}}, "or to no schema in it"),
        ({"items": {"$ref": "#/x"}, "x": {"pattern": "(?=a)b"}}, "at /x: the pattern"),
        ({"$schema": OLD, "$recursiveRef": "#"}, "what it refers to refers to it"),
        ({"items": {"$ref": "#/type"}, "type": "object"}, "or to no schema in it"),
        ({"items": {"$ref": "#/allOf/x"}, "allOf": [{}]}, "or to no schema in it"),
        ({"$schema": 5}, "at /$schema: an unknown dialect"),
        ({"$schema": []}, "at /$schema: an unknown dialect"),
        ({"$schema": "http://["}, "at /$schema: an unknown dialect"),
        ({"$id": "urn:a", "items": {"$id": "http://["}}, "an $id or a reference in it is no URI"),
    ],
)
def test_what_can_not_be_judged_by_ends_the_start(document: dict[str, Any], says: str) -> None:
    """Rules that nothing can check in a time that grows with the value alone, or that lead nowhere,
    or back to themselves, are refused."""
    with pytest.raises(StartFailed) as refused:
        Schema(document, "s.json")
    assert says in str(refused.value)
