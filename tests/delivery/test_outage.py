"""The end of a store's outage, and its length."""

from __future__ import annotations

from router.delivery.queue import Outage


def outage() -> Outage:
    return Outage(("reads", "writes"), 100.0)


def test_it_is_over_once_every_round_has_succeeded() -> None:
    """A round that succeeds all along does not end it, nor does one before the last failure."""
    store = outage()
    store.begin()
    assert store.succeed("reads", 101.0) is None
    assert store.succeed("reads", 102.0) is None
    store.begin()
    assert store.succeed("writes", 103.0) is None
    assert store.succeed("reads", 104.0) is not None


def test_it_is_reported_once() -> None:
    """Success after its end reports nothing more, and the next outage is another one."""
    store = outage()
    for began in (200.0, 300.0):
        store.begin()
        store.begin()
        assert store.succeed("reads", began + 10) is None
        assert store.succeed("writes", began + 10) is not None
        assert store.succeed("reads", began + 11) is None
        assert store.succeed("writes", began + 11) is None


def test_it_is_as_long_as_the_round_that_failed_longest() -> None:
    """It counts from that round's last success, even if the failure took a while to show."""
    store = outage()
    store.succeed("writes", 105.0)
    for now in range(106, 116):
        store.succeed("reads", now)
    store.begin()
    store.succeed("reads", 117.0)
    assert store.succeed("writes", 120.0) == 15.0
