"""The intake: an event is what its callback says, whichever way the callback is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.intake import LARGE, MAX_NAMES, SMALL, Intake
from router.contract.schema import Schema
from router.model.errors import Refused
from router.model.event import FIELDS, Event
from tests.support.house import event

CONTRACT = Intake.of(None)

#: With an operator's schema.
STRICTER = Intake(
    Schema.shipped(), Schema({"properties": {"padding": {"type": "string"}}}, "s.json")
)

_texts = st.text(min_size=1, max_size=8)
_callbacks = st.fixed_dictionaries(
    {
        **dict.fromkeys(FIELDS[:4], _texts),
        "changes": st.lists(st.integers() | _texts, max_size=3) | st.just([*range(30)]),
        "padding": st.sampled_from(["", "x" * SMALL, "x" * LARGE]),
    },
    optional={"event_key": st.none() | st.just("") | _texts},
)
_faults = st.dictionaries(
    st.sampled_from([*FIELDS, "changes", "padding"]), st.sampled_from([None, "", 7, ["a"]])
)


@given(_callbacks)
def test_an_event_is_what_its_callback_says(callback: dict[str, Any]) -> None:
    """Fields, body, the key or a derived one, and the first twenty ids for the log."""
    body = json.dumps(callback).encode()
    read = CONTRACT.read(body)
    four = [callback[name] for name in FIELDS[:4]]
    assert [getattr(read, name) for name in FIELDS[:4]] == four
    assert read.event_key == (callback.get("event_key") or ".".join(four))
    assert list(read.changes) == callback["changes"][:20]
    assert read.body == body


@given(_callbacks, _faults)
def test_the_way_of_reading_makes_no_difference(
    callback: dict[str, Any], faults: dict[str, Any]
) -> None:
    """The loop and a thread give the same event, or a refusal in the same words."""
    body = json.dumps({**callback, **faults}).encode()
    for intake in (CONTRACT, STRICTER):
        assert _outcome(intake.read_at_once, body) in (None, _outcome(intake.read, body))


def _outcome(read: Callable[[bytes], Event | None], body: bytes) -> object:
    try:
        return read(body)
    except Refused as refused:
        return refused.code, refused.msg, refused.why, refused.field


@pytest.mark.parametrize("names", [FIELDS[:1], FIELDS[1:3], FIELDS])
def test_the_names_are_bounded_together(names: tuple[str, ...]) -> None:
    """The fields that routes match have 16 Ki characters together; the reply names the longest."""
    rest = len("".join(json.loads(event())[name] for name in FIELDS if name not in names))
    size, more = divmod(MAX_NAMES - rest, len(names))
    fields = dict.fromkeys(names, "证" * size)
    fields[names[0]] += "证" * more
    assert CONTRACT.read(event(**fields)).event_key == (fields.get("event_key") or "a.gs.cert.1")
    fields[names[-1]] += "证" * (1 + more)
    with pytest.raises(Refused) as refused:
        CONTRACT.read(event(**fields))
    assert (refused.value.field, refused.value.code) == (names[-1], "400")
    assert refused.value.msg == f"参数{names[-1]}长度不符合要求，与其他路由字段合计应不超过16384"
