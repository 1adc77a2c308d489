"""Values are equal if their attributes are."""

from __future__ import annotations

import inspect
import json
import uuid
from hashlib import sha256
from typing import Any

import pytest

from router.contract.schema import shipped_schema
from router.model.build import COMPILED
from router.model.event import (
    FIELDS,
    MAX_CHANGES,
    OWN_KEYS,
    SELF_INFLICTED,
    SUCCESS,
    Attempt,
    Event,
    OutboundEvent,
    Reason,
    Value,
    new_id,
)
from router.transport.engine import Answer, Failure

EVENT = Event("a", "gs", "cert", "1", "a.gs.cert.1", b"{}", ["id"])

#: One of each, with every attribute.
VALUES: list[Value] = [
    Answer(200, b"{}", "gzip", "7"),
    Attempt(Reason.CODE, True, 0.5, 200, "detail", 7.0, 8.0, "500", "said"),
    EVENT,
    Failure(Reason.RESET, True, 200, "detail"),
    OutboundEvent(EVENT, b"digest", "request", "parent", "state", "id", b"head", 1, 1.5, "retry"),
]


def another(value: Any) -> Any:
    """Return another value of that type."""
    match value:
        case Reason():
            return Reason.DNS
        case Event():
            return value.replace(body=b"other")
        case bool():
            return not value
        case list():
            return ()
        case str():
            return f"{value}2"
        case bytes():
            return b"other"
    return value + 1


@pytest.mark.parametrize("one", VALUES, ids=lambda each: type(each).__name__)
def test_a_value_is_what_it_is_made_of(one: Value) -> None:
    """Comparing, copying and showing include every attribute."""
    assert [*one.NAMES] == [*inspect.signature(type(one)).parameters]
    again = type(one)(*one.values())
    assert (again, repr(again)) == (one, repr(one))
    for name in one.NAMES:
        value = another(getattr(one, name))
        other = one.replace(**{name: value})
        assert other != one
        assert getattr(other, name) == value
        assert f"{name}={value!r}" in repr(other)
        assert other.replace(**{name: getattr(one, name)}) == one


@pytest.mark.skipif(COMPILED, reason="what is compiled refuses values of another type")
def test_a_value_is_no_other_class_of_the_same_attributes() -> None:
    failure: Any = Failure(Reason.RESET, True)
    assert Answer(*failure.values()) != failure
    assert Failure(Reason.RESET, True) != (Reason.RESET, True, None, "")


def test_an_id_is_a_uuid() -> None:
    """Ids are UUIDs of version 4, and unique."""
    ids = [new_id() for _ in range(1000)]
    for text in ids:
        read = uuid.UUID(text)
        assert (read.version, read.variant, str(read)) == (4, uuid.RFC_4122, text)
    assert len(set(ids)) == 1000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"key": "a.gs.cert.1"}, ["a", "gs", "cert", "1", "a.gs.cert.1"]),
        ({"key": "a.gs.cert.1", "type": "key"}, ["a", "gs", "key", "1", "a.gs.cert.1"]),
        ({"key": "a.gs.cert.1.x"}, ["", "", "", "", "a.gs.cert.1.x"]),
        ({"key": "a.gs", "status": "1"}, ["", "", "", "1", "a.gs"]),
        (
            {"source": "a", "topic": "b", "type": "c", "status": "d"},
            ["a", "b", "c", "d", "a.b.c.d"],
        ),
        ({"source": "a", "key": ""}, ["a", "", "", "", "a..."]),
    ],
)
def test_an_event_of_some_fields(given: dict[str, str], expected: list[str]) -> None:
    """A field that is given counts, then its part of a key with four parts; a missing key is
    derived."""
    event = Event.of({f"event_{name}": value for name, value in given.items()})
    assert [getattr(event, name) for name in FIELDS] == expected
    assert event.derived_key == ".".join(expected[:4])


def test_an_outbound_event_is_identified_by_every_byte_of_its_body() -> None:
    """Blanks around the JSON make another body; the rest of it goes along."""
    for body in (b"{}", b" {}", b"{}\n"):
        made = OutboundEvent.of(EVENT.replace(body=body), "request", "parent", "state", 2)
        digest = sha256(body).digest()
        event = EVENT.replace(body=body)
        assert made == OutboundEvent(event, digest, "request", "parent", "state", hops=2)


def test_the_words_of_the_platform_and_of_the_log() -> None:
    """The fields are the page's in its order, `000` acknowledges, and a line has twenty ids."""
    page = json.loads(shipped_schema("callback.schema.json").read_text())
    assert [*FIELDS, "changes"] == list(page["properties"])
    assert (SUCCESS, OWN_KEYS, MAX_CHANGES) == ("000", "ebaas-router.", 20)


def test_the_router_blames_itself_for_its_own_doings() -> None:
    """An attempt that the router held back or broke off costs no retry, and blames no target."""
    assert [str(reason) for reason in Reason] == [reason.name.lower() for reason in Reason]
    own = "saturated breaker_open rate_limited out_of_files paused stopped elsewhere"
    assert {str(reason) for reason in SELF_INFLICTED} == set(own.split())
