"""When a store's outage is over, and how long it was."""

from __future__ import annotations

from router.delivery.queue import Outage


def outage() -> Outage:
    return Outage(("reads", "writes"), 100.0)


def test_there_is_none_without_a_failure() -> None:
    """What goes well again and again is nothing to tell."""
    store = outage()
    assert [store.went_well(name, 101.0) for name in ("reads", "writes", "reads")] == [None] * 3


def test_it_is_over_once_every_round_has_gone_well() -> None:
    """One that goes well all along does not end it, nor does one before the last failure."""
    store = outage()
    store.begin()
    assert store.went_well("reads", 101.0) is None
    assert store.went_well("reads", 102.0) is None
    store.begin()
    assert store.went_well("writes", 103.0) is None
    assert store.went_well("reads", 104.0) is not None


def test_it_is_told_once() -> None:
    """What goes well after its end tells nothing more, and the next one is one of its own."""
    store = outage()
    for began in (200.0, 300.0):
        store.begin()
        store.begin()
        assert store.went_well("reads", began + 10) is None
        assert store.went_well("writes", began + 10) is not None
        assert store.went_well("reads", began + 11) is None
        assert store.went_well("writes", began + 11) is None


def test_it_is_as_long_as_the_round_that_failed_longest() -> None:
    """It counts from when that last went well, also where the failure took a while to show."""
    store = outage()
    store.went_well("writes", 105.0)
    for now in range(106, 116):
        store.went_well("reads", now)
    store.begin()
    store.went_well("reads", 117.0)
    assert store.went_well("writes", 120.0) == 15.0
