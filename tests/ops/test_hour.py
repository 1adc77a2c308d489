"""The last hour by the minute, as the console shows it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from router.model.event import Attempt, Reason
from router.ops.hour import HOUR, History, Hour, quantile
from router.telemetry.health import LONGEST, MINUTE
from router.telemetry.metrics import Metrics
from tests.support.house import house, routes, stand_in

#: The beginning of a minute, Unix time, in seconds.
START = 30_000_000.0 * MINUTE


def counting() -> Metrics:
    metrics = Metrics()
    metrics.adopt(["ledger", "audit"])
    return metrics


def test_a_target_that_left_and_came_back_begins_anew() -> None:
    """Its metrics are new; no count is below zero."""
    metrics = counting()
    history = History(metrics, START)
    for _ in range(3):
        metrics.of("ledger").attempt(Attempt(Reason.TIMEOUT, True, 5.0, at=START))
    history.look(START + MINUTE)
    metrics.adopt(["audit"])
    metrics.adopt(["ledger", "audit"])
    metrics.of("ledger").attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.01, at=START))
    hour = Hour(history, START + MINUTE)
    assert hour.attempts(["ledger"])["attempts"][-2:] == [3, 1]
    assert hour.sums("ledger")["failed"] == 3


def test_the_hour_ends_with_the_current_minute() -> None:
    """Sixty minutes, and no older ones; one without events has zeros and no latency."""
    metrics = counting()
    history = History(metrics, START)
    metrics.claims += 1
    for code in ("000", "500"):
        metrics.event(code, 0.002)
        reason = Reason.ACKNOWLEDGED if code == "000" else Reason.CODE
        metrics.of("ledger").attempt(Attempt(reason, True, 0.02, at=START))
    history.look(START + MINUTE)

    hour = Hour(history, START + MINUTE + 1)
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
    assert sum(Hour(history, START + HOUR * MINUTE).events()["events"]) == 0
    for minute in range(2, 3 * HOUR):
        history.look(START + minute * MINUTE)
    assert len(history.minutes()) == HOUR


@pytest.mark.anyio
async def test_a_router_closes_its_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its start on, without being asked for them."""
    monkeypatch.setattr("router.ops.hour.MINUTE", 0.2)
    async with stand_in() as (url, _), house(routes({"one": url})) as router:
        for _ in range(2):
            assert (await router.post()).json()["code"] == "000"
            await asyncio.sleep(0.5)
        events = Hour(router.app.history, time.time()).events()["events"]
    assert [number for number in events if number] == [1, 1]


@pytest.mark.anyio
async def test_many_targets_do_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is closed beside the loop, although it takes long."""
    monkeypatch.setattr("router.ops.hour.MINUTE", 0.5)
    metrics = Metrics()
    metrics.adopt([f"target-{number}" for number in range(20_000)])
    for numbers in metrics.targets.values():
        numbers.attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.01, at=START))
    history = History(metrics, time.time())
    closing, worst = asyncio.create_task(history.run()), 0.0
    while len(history.minutes()) < 3:
        before = time.thread_time()  # which does not depend on what else the machine does
        await asyncio.sleep(0.005)
        worst = max(worst, time.thread_time() - before)
    closing.cancel()
    assert worst < 0.05


def test_a_state_ends_although_nobody_asks() -> None:
    """The next trouble begins anew."""
    metrics = counting()
    history, ledger = History(metrics, START), metrics.of("ledger")
    fails = [0, 30]
    for minute in range(31):
        at = START + minute * MINUTE
        for _ in range(20):
            reason = Reason.TIMEOUT if minute in fails else Reason.ACKNOWLEDGED
            ledger.attempt(Attempt(reason, True, 0.1, at=at + 1.0))
        history.look(at + MINUTE)
    assert (ledger.health.state, ledger.health.since) == ("degraded", START + 30 * MINUTE + 1.0)
    assert len(ledger.lately) <= LONGEST + 1


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
