"""The last hour, as the console shows it."""

from __future__ import annotations

import pytest

from router.model.event import Attempt, Reason
from router.ops.hour import Hour, quantile
from router.telemetry.metrics import Metrics
from router.telemetry.minutes import HOUR, MINUTE, Minutes

#: The beginning of a minute, Unix time, in seconds.
START = 30_000_000.0 * MINUTE


def test_the_hour_ends_with_the_minute_that_goes_on() -> None:
    """Sixty minutes, those in which nothing was counted at nothing, without a time."""
    metrics = Metrics()
    metrics.adopt(["ledger"])
    minutes = Minutes(metrics, START)
    metrics.event("000", 0.002)
    metrics.event("500", 0.002)
    metrics.of("ledger").attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.02, at=START))
    metrics.of("ledger").attempt(Attempt(Reason.CODE, True, 0.02, at=START))
    minutes.look(START + MINUTE)

    hour = Hour(minutes.told(), START + MINUTE + 1)
    events, attempts, sums = hour.events(), hour.attempts({"ledger", "x"}), hour.sums("ledger")

    assert len(events["events"]) == HOUR
    assert events["events"][-2:] == [2, 0]
    assert events["failed"][-2:] == [1, 0]
    assert events["p99_ms"][-2:] == [5.0, None]
    assert (attempts["attempts"][-2], attempts["failed"][-2]) == (2, 1)
    assert (sums["attempts"], sums["acknowledged"], sums["failed"]) == (2, 1, 1)
    assert sums["reasons"] == {"code": 1}


def test_a_minute_of_before_the_hour_is_left_out() -> None:
    """A process that was suspended tells minutes that are too old: nobody is shown them."""
    metrics = Metrics()
    minutes = Minutes(metrics, START)
    metrics.event("000", 0.002)

    hour = Hour(minutes.told(), START + HOUR * MINUTE)

    assert sum(hour.events()["events"]) == 0


@pytest.mark.parametrize(
    ("part", "counts", "wanted"),
    [
        (0.5, (0, 0, 0), None),
        (0.5, (4, 0, 0), 50.0),
        (0.5, (2, 2, 0), 100.0),
        (0.99, (0, 0, 3), 200.0),
        (0.75, (2, 2, 0), 150.0),
    ],
)
def test_quantiles_are_those_of_prometheus(
    part: float, counts: tuple[int, ...], wanted: float | None
) -> None:
    """Interpolated within the bucket; above all bounds the last of them."""
    assert quantile(part, counts, (0.1, 0.2)) == wanted
