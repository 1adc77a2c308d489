"""What is nothing but its attributes."""

from __future__ import annotations

import inspect

import pytest

from router.model.event import Attempt, Event, Letter, Reason
from router.model.value import Value
from router.transport.engine import Answer, Failure

VALUES: list[type[Value]] = [Answer, Attempt, Event, Failure, Letter]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_what_it_is_made_of(value: type[Value]) -> None:
    """Nothing that it is made of is left out where it is compared, copied or shown."""
    made_of = [*inspect.signature(value).parameters]
    assert [*value.NAMES] == made_of
    one = value(*made_of)
    assert one == value(*made_of)
    assert hash(one) == hash(value(*made_of))
    for name in made_of:
        other = one.but(**{name: "another"})
        assert other != one
        assert (getattr(other, name), getattr(one, name)) == ("another", name)
        assert f"{name}='another'" in repr(other)


def test_a_value_is_no_other_class_of_the_same_attributes() -> None:
    assert Failure(Reason.RESET, True) != Attempt(Reason.RESET, True, 0.0)
    assert Failure(Reason.RESET, True) != (Reason.RESET, True, None, "")
