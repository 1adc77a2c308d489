"""The last hour by the minute, as the console shows it."""

from __future__ import annotations

from collections import Counter

import pytest

from router.model.event import Attempt, Reason
from router.ops.hour import ALL_EVENTS, HOUR, MINUTE, Counts, History, Hour, quantile
from router.telemetry.metrics import Metrics

#: The beginning of a minute, Unix time, in seconds.
START = 30_000_000.0 * MINUTE


def counting(now: float = START) -> tuple[Metrics, History]:
    metrics = Metrics()
    metrics.adopt(["ledger", "audit"])
    return metrics, History(metrics, now)


def ends(counts: Counts) -> dict[str, int]:
    return {end: count for end, count in counts.items() if isinstance(end, str)}


def at(now: float) -> int:
    return int(now // MINUTE)


def test_a_minute_has_what_was_counted_in_it() -> None:
    """Events, failures and attempts, once."""
    metrics, history = counting()
    metrics.event("000", 0.002)
    metrics.event("500", 0.2)
    metrics.of("ledger").attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.01, at=START))
    history.look(START + MINUTE)
    metrics.event("000", 0.002)
    metrics.of("ledger").attempt(Attempt(Reason.TIMEOUT, True, 5.0, at=START + MINUTE))

    minutes = history.minutes()

    first, second = minutes[at(START)], minutes[at(START + MINUTE)]
    assert ends(first[ALL_EVENTS]) == {"000": 1, "500": 1}
    assert first[ALL_EVENTS].total() == 4  # each event has a code and a bucket of time
    assert ends(first["ledger"]) == {"acknowledged": 1}
    assert ends(second[ALL_EVENTS]) == {"000": 1}
    assert ends(second["ledger"]) == {"timeout": 1}
    assert "audit" not in first


def test_no_more_than_an_hour_is_kept() -> None:
    """Sixty minutes, the current one included."""
    metrics, history = counting()
    for minute in range(3 * HOUR):
        metrics.event("000", 0.002)
        history.look(START + (minute + 1) * MINUTE)

    minutes = history.minutes()

    assert len(minutes) == HOUR
    assert min(minutes) == at(START + (2 * HOUR + 1) * MINUTE)


def test_a_target_that_left_and_came_back_begins_anew() -> None:
    """Its metrics are new; no count is below zero."""
    metrics, history = counting()
    for _ in range(3):
        metrics.of("ledger").attempt(Attempt(Reason.TIMEOUT, True, 5.0, at=START))
    history.look(START + MINUTE)
    metrics.adopt(["audit"])
    metrics.adopt(["ledger", "audit"])
    metrics.of("ledger").attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.01, at=START))

    ledger = history.minutes()[at(START + MINUTE)]["ledger"]

    assert ends(ledger) == {"acknowledged": 1}
    assert ledger.total() == 2


def test_the_hour_ends_with_the_current_minute() -> None:
    """Sixty minutes; one without events has zeros and no latency."""
    metrics = Metrics()
    metrics.adopt(["ledger"])
    history = History(metrics, START)
    metrics.event("000", 0.002)
    metrics.event("500", 0.002)
    metrics.claims += 1
    metrics.of("ledger").attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.02, at=START))
    metrics.of("ledger").attempt(Attempt(Reason.CODE, True, 0.02, at=START))
    history.look(START + MINUTE)

    hour = Hour(history.minutes(), START + MINUTE + 1)
    events, attempts, sums = hour.events(), hour.attempts({"ledger", "x"}), hour.sums("ledger")

    assert len(events["events"]) == HOUR
    assert events["events"][-2:] == [2, 0]
    assert events["failed"][-2:] == [1, 0]
    assert events["retries"][-2:] == [1, 0]
    assert events["p99_ms"][-2:] == [5.0, None]
    assert (attempts["attempts"][-2], attempts["failed"][-2]) == (2, 1)
    assert (sums["attempts"], sums["acknowledged"], sums["failed"]) == (2, 1, 1)
    assert sums["reasons"] == {"code": 1}
    assert sums["failed_minutes"][-2:] == [1, 0]
    assert hour.sums("x")["failed_minutes"] == []
    # A process that was suspended has minutes that are too old.
    assert sum(Hour(history.minutes(), START + HOUR * MINUTE).events()["events"]) == 0


@pytest.mark.parametrize(
    ("part", "counts", "expected"),
    [
        (0.5, (0, 0, 0), None),
        (0.5, (4, 0, 0), 50.0),
        (0.5, (2, 2, 0), 100.0),
        (0.99, (0, 0, 3), 200.0),
        (0.75, (2, 2, 0), 150.0),
    ],
)
def test_quantiles_are_those_of_prometheus(
    part: float, counts: tuple[int, ...], expected: float | None
) -> None:
    """Interpolated within the bucket; above all bounds the last bound."""
    assert quantile(part, Counter(dict[str | int, int](enumerate(counts))), (0.1, 0.2)) == expected
