"""Retry schedules, durations and times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from router.contract.schedule import PLATFORM, Schedule, parse_duration, parse_time


def test_a_schedule_is_as_long_as_its_retries() -> None:
    """The last wait repeats, and waits that no retry needs are not counted. The twenty-first retry
    of EBaaS has none."""
    waits = (1.0, 3.0, 7.0)
    assert Schedule(waits, 5).all_waits() == (1.0, 3.0, 7.0, 7.0, 7.0)
    assert Schedule(waits, 2).all_waits() == (1.0, 3.0)
    assert [Schedule(waits, retries).total() for retries in (5, 2, 0)] == [25.0, 4.0, 0]
    every = [PLATFORM.wait(made) for made in range(22)]
    assert every == [1.0, 3.0, 7.0, 30.0, 60.0, 300.0, *[3600.0] * 14, None, None]
    assert Schedule((1.0,), 0).wait(0) is None


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine is in another time zone than UTC."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


NOW = 1_764_396_000.0  # 2025-11-29T06:00:00Z


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("2025-11-29T06:00:00Z", 0.0),
        ("2025-11-29T06:00:10", 10.0),
        ("2025-11-29 14:00:00+08:00", 0.0),
        ("2025-11-29", -6 * 3600.0),
        ("90s", -90.0),
        ("1.5h", -5400.0),
        ("2m", -120.0),
        ("500ms", -0.5),
        ("7d", -7 * 86400.0),
    ],
)
def test_a_time_is_in_utc_or_an_age(text: str, after: float) -> None:
    """The machine's time zone does not matter; an age is before now, or ahead of it."""
    assert parse_time(text, NOW) == NOW + after
    is_age = text[-1] in "smhd"
    assert parse_time(text, NOW, ahead=True) == NOW + (-after if is_age else after)


@pytest.mark.parametrize("text", ["", "5", "5w", "-5s", "5 s", "1e3s", "s", "5S", "5s ", "\u0665s"])
@pytest.mark.parametrize("parse", [parse_duration, partial(parse_time, now=NOW)])
def test_a_text_that_is_not_a_duration_is_refused(parse: Callable[[str], float], text: str) -> None:
    """A unit is required, and nothing else may stand beside it."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse(text)
