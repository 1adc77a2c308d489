"""The alarm: each mark is told once on the way up, and once when it is well behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.lag import MARKS, SLACK, Alarm, Passed


def told(*levels: float) -> list[Passed | None]:
    alarm = Alarm()
    return [alarm.look(level) for level in levels]


def test_each_mark_is_told_once_on_the_way_up() -> None:
    """From half on; a level between two marks says nothing more."""
    assert told(0.49, 0.5, 0.6, 0.75, 0.8, 0.95, 1.2) == [
        None,
        Passed(0.5, rising=True),
        None,
        Passed(0.75, rising=True),
        None,
        Passed(0.9, rising=True),
        None,
    ]


def test_a_leap_tells_the_highest_mark() -> None:
    """And a fall the lowest: one line for one look."""
    assert told(0.92, 0.1) == [Passed(0.9, rising=True), Passed(0.5, rising=False)]


def test_a_level_that_swings_is_told_once() -> None:
    """It has to fall well below a mark before that is over, and can then pass it anew."""
    assert told(0.5, 0.46, 0.5, 0.45, 0.5) == [
        Passed(0.5, rising=True),
        None,
        None,
        Passed(0.5, rising=False),
        Passed(0.5, rising=True),
    ]


@pytest.mark.parametrize("level", [0.0, 0.499])
def test_below_half_there_is_no_alarm(level: float) -> None:
    """Nothing at all is said at a start that is well."""
    assert told(level) == [None]


@given(st.lists(st.floats(0.0, 1.5)))
def test_what_was_told_last_is_true(levels: list[float]) -> None:
    """Whatever the level did: who has heard everything knows where it is, but for the slack."""
    alarm, passed = Alarm(), set[float]()
    for level in levels:
        if change := alarm.look(level):
            if change.rising:
                passed |= {mark for mark in MARKS if mark <= change.mark}
            else:
                passed -= {mark for mark in MARKS if mark >= change.mark}
        assert {mark for mark in MARKS if level >= mark} <= passed
        assert passed <= {mark for mark in MARKS if level > mark - SLACK}
