"""Values are equal if their attributes are."""

from __future__ import annotations

import inspect
import uuid
from typing import Any

import pytest

from router.model.event import FIELDS, Attempt, Event, OutboundEvent, Reason, Value, new_id
from router.transport.engine import Answer, Failure

EVENT = Event("a", "gs", "cert", "1", "a.gs.cert.1", b"{}", ["id"])

#: One of each, and what else each of its attributes could be.
VALUES: list[tuple[Value, dict[str, Any]]] = [
    (
        Answer(200, b"{}", "gzip", "7"),
        {"status": 201, "body": b"", "encoding": "br", "retry_after": "8"},
    ),
    (
        Attempt(Reason.CODE, True, 0.5, 200, "detail", 7.0, 8.0, "500", "said"),
        {
            "reason": Reason.RESET,
            "delivered": False,
            "seconds": 0.6,
            "status": None,
            "detail": "",
            "retry_after": None,
            "at": 9.0,
            "code": "501",
            "msg": "",
        },
    ),
    (EVENT, {**dict.fromkeys(FIELDS, "other"), "body": b"", "changes": ()}),
    (
        Failure(Reason.RESET, True, 200, "detail"),
        {"reason": Reason.DNS, "delivered": False, "status": None, "detail": ""},
    ),
    (
        OutboundEvent(EVENT, b"digest", "request", "parent", "state", "id", b"head"),
        {
            "event": EVENT.replace(body=b""),
            "digest": b"",
            "request_id": "",
            "traceparent": "",
            "tracestate": "",
            "event_id": "",
            "head": b"",
            "hops": 1,
        },
    ),
]


@pytest.mark.parametrize(("one", "others"), VALUES, ids=lambda each: type(each).__name__)
def test_a_value_is_what_it_is_made_of(one: Value, others: dict[str, Any]) -> None:
    """Comparing, copying and showing include every attribute."""
    assert [*one.NAMES] == [*others] == [*inspect.signature(type(one)).parameters]
    again = type(one)(*one.values())
    assert again == one
    assert repr(again) == repr(one)
    for name, value in others.items():
        other = one.replace(**{name: value})
        assert other != one
        assert getattr(other, name) == value
        assert f"{name}={value!r}" in repr(other)
        assert other.replace(**{name: getattr(one, name)}) == one


def test_equal_values_have_one_hash() -> None:
    assert len({Failure(Reason.RESET, True), Failure(Reason.RESET, True)}) == 1


def test_a_value_is_no_other_class_of_the_same_attributes() -> None:
    assert Failure(Reason.RESET, True) != Attempt(Reason.RESET, True, 0.0)
    assert Failure(Reason.RESET, True) != (Reason.RESET, True, None, "")


def test_an_id_is_a_uuid() -> None:
    """Ids are UUIDs of version 4, and unique."""
    ids = [new_id() for _ in range(1000)]
    for text in ids:
        read = uuid.UUID(text)
        assert (read.version, read.variant, str(read)) == (4, uuid.RFC_4122, text)
    assert len(set(ids)) == 1000
