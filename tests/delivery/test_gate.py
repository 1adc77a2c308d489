"""The verdict of an attempt on its target, streaks of failures, and gates. Pure."""

from __future__ import annotations

import pytest

from router.delivery.target.gate import (
    REPORT_AFTER,
    REPORT_AGAIN_AFTER,
    Gate,
    Streak,
    shows_failure,
)
from router.model.event import SELF_INFLICTED, Attempt, Reason
from router.routing.target import BreakerPolicy, Rate, Target

YES = Attempt(Reason.ACKNOWLEDGED, True, 0.1, 200)


def status(number: int) -> Attempt:
    return Attempt(Reason.STATUS, True, 0.1, number)


@pytest.mark.parametrize(
    ("attempt", "says"),
    [
        (YES, False),
        (Attempt(Reason.TIMEOUT, True, 5.0), True),
        (Attempt(Reason.CONNECT_REFUSED, False, 0.1), True),
        (Attempt(Reason.NOT_JSON, True, 0.1, 200), True),
        (status(500), True),
        (status(429), True),
        (status(408), True),
        (status(400), False),
        (status(404), False),
        (status(410), False),
        (Attempt(Reason.CODE, True, 0.1, 200), False),
        (Attempt(Reason.LOOPING, True, 0.1, 508), False),
        *((Attempt(reason, False, 0.1), None) for reason in sorted(SELF_INFLICTED)),
    ],
)
def test_what_an_attempt_says_of_its_target(attempt: Attempt, says: bool | None) -> None:
    """A refusal of the event is the answer of a working target, unless refusals count."""
    assert shows_failure(attempt, refusals=False) is says
    assert shows_failure(attempt, refusals=True) is (
        None if says is None else not attempt.acknowledged
    )


def gate(target: Target, before: Gate | None = None) -> Gate:
    return Gate(target, before, lambda *_: None, lambda: 1000.0)


def begin(gate: Gate) -> int:
    assert gate.breaker is not None
    turn = gate.breaker.begin()
    assert turn is not None
    return turn


def test_a_gate_has_room_for_attempts_that_could_begin() -> None:
    """None if it is closed, one for a probe, as many as the rate gives, otherwise any number."""
    url = "http://127.0.0.1/"
    rate = Rate(2.0, 3)
    assert gate(Target("one", url)).room(1.0) > 1000
    assert gate(Target("one", url, rate=rate)).room(1.0) == 5
    assert gate(Target("one", url, rate=rate)).room(0.0, keeps_burst=True) == 1
    assert gate(Target("one", url, rate=rate, paused=True)).room(1.0) == 0
    time = 1000.0
    policy = BreakerPolicy(1.0, of_at_least=1, pause=10.0)
    shut = Gate(Target("one", url, breaker=policy), None, lambda *_: None, lambda: time)
    shut.end(begin(shut), status(500))
    assert shut.room(1.0) == 0
    time += 10.0
    assert shut.room(1.0) == 1
    turn = begin(shut)
    assert shut.room(1.0) == 0
    shut.end(turn, None)
    assert shut.room(1.0) == 1


def test_a_breaker_is_kept_for_the_same_address_alone() -> None:
    """Another address is another endpoint, of which the failures say nothing."""
    policy = BreakerPolicy(1.0, of_at_least=1)
    before = gate(Target("one", "http://127.0.0.1/", breaker=policy))
    before.end(begin(before), status(500))
    same = Target("one", "http://127.0.0.1/", timeout=1.0, breaker=policy)
    other = Target("one", "http://127.0.0.2/", breaker=policy)
    assert gate(same, before).refusal is Reason.BREAKER_OPEN
    assert gate(other, before).refusal is None


def test_a_streak_is_reported_after_a_while_then_every_hour() -> None:
    """With its beginning; attempts that the router held back neither begin nor end it. Neither a
    short streak nor its end is reported."""
    streak = Streak()
    assert streak.add(Attempt(Reason.PAUSED, False, 0.0), 500.0) is None
    assert streak.since == 0
    assert streak.add(status(500), 1000.0) is None
    assert streak.add(Attempt(Reason.BREAKER_OPEN, False, 0.0), 1000.0 + REPORT_AFTER) is None
    reported = streak.add(status(500), 1000.0 + REPORT_AFTER)
    assert reported is not None
    assert (reported.since, reported.attempts, reported.last) == (1000.0, 2, status(500))
    assert streak.add(status(500), 1000.0 + REPORT_AFTER + REPORT_AGAIN_AFTER - 1) is None
    assert streak.add(status(500), 1000.0 + REPORT_AFTER + REPORT_AGAIN_AFTER) is not None
    over = streak.add(YES, 9000.0)
    assert over is not None
    assert (over.since, over.attempts, over.last) == (1000.0, 4, YES)
    assert (streak.since, streak.add(YES, 9001.0)) == (0, None)
    assert streak.add(status(503), 9002.0) is None
    assert streak.add(YES, 9002.5) is None
