"""The length of a retry schedule."""

from __future__ import annotations

from router.contract.schedule import Schedule


def test_a_schedule_is_as_long_as_its_retries() -> None:
    """The last wait repeats, and waits that no retry needs are not counted."""
    waits = (1.0, 3.0, 7.0)
    assert Schedule(waits, 5).all_waits() == (1.0, 3.0, 7.0, 7.0, 7.0)
    assert Schedule(waits, 2).all_waits() == (1.0, 3.0)
    assert (Schedule(waits, 2).total(), Schedule(waits, 2).due()) == (4.0, (1.0, 4.0))
    assert Schedule(waits, 0).total() == 0
