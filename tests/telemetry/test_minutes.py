"""What was counted in each minute of the last hour."""

from __future__ import annotations

from router.model.event import Attempt, Reason
from router.telemetry.metrics import Metrics
from router.telemetry.minutes import HOUR, MINUTE, Minutes

#: The beginning of a minute, Unix time, in seconds.
START = 30_000_000.0 * MINUTE


def counting(now: float = START) -> tuple[Metrics, Minutes]:
    metrics = Metrics()
    metrics.adopt(["ledger", "audit"])
    return metrics, Minutes(metrics, now)


def at(now: float) -> int:
    return int(now // MINUTE)


def test_a_minute_has_what_was_counted_in_it() -> None:
    """Events, failures and attempts count in the minute in which they were counted, once."""
    metrics, minutes = counting()
    metrics.event("000", 0.002)
    metrics.event("500", 0.2)
    metrics.of("ledger").attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.01, at=START))
    minutes.look(START + MINUTE)
    metrics.event("000", 0.002)
    metrics.of("ledger").attempt(Attempt(Reason.TIMEOUT, True, 5.0, at=START + MINUTE))

    told = minutes.told()

    first, second = told[at(START)], told[at(START + MINUTE)]
    assert (first["events"], first["failed"], sum(first["seconds"])) == (2, 1, 2)
    assert first["targets"]["ledger"]["reasons"] == {"acknowledged": 1}
    assert (second["events"], second["failed"]) == (1, 0)
    assert second["targets"]["ledger"]["reasons"] == {"timeout": 1}
    assert "audit" not in first["targets"]


def test_no_more_than_an_hour_is_kept() -> None:
    """Whatever time passes, sixty minutes are told at most, the one that goes on included."""
    metrics, minutes = counting()
    for minute in range(3 * HOUR):
        metrics.event("000", 0.002)
        minutes.look(START + (minute + 1) * MINUTE)

    told = minutes.told()

    assert len(told) == HOUR
    assert min(told) == at(START + (2 * HOUR + 1) * MINUTE)


def test_a_clock_that_is_set_back_loses_no_event() -> None:
    """What was counted before and after the jump is in the minutes of the clock as it was."""
    metrics, minutes = counting()
    metrics.event("000", 0.002)
    minutes.look(START + MINUTE)
    metrics.event("000", 0.002)
    minutes.look(START)
    metrics.event("000", 0.002)
    minutes.look(START + MINUTE)

    assert sum(minute["events"] for minute in minutes.told().values()) == 3
    assert minutes.told()[at(START)]["events"] == 2


def test_a_target_that_left_and_came_back_begins_anew() -> None:
    """Its numbers are new; none is ever told below nothing."""
    metrics, minutes = counting()
    for _ in range(3):
        metrics.of("ledger").attempt(Attempt(Reason.TIMEOUT, True, 5.0, at=START))
    minutes.look(START + MINUTE)
    metrics.adopt(["audit"])
    metrics.adopt(["ledger", "audit"])
    metrics.of("ledger").attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.01, at=START))

    ledger = minutes.told()[at(START + MINUTE)]["targets"]["ledger"]

    assert ledger["reasons"] == {"acknowledged": 1}
    assert min(ledger["seconds"]) == 0
