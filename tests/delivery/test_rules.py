"""The rules of delivery memory as decisions: each case is one consequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from router.contract.schedule import PLATFORM, Schedule, Terms
from router.delivery import rules
from router.delivery.rules import Cause, Delivery, InForce
from router.model.event import SELF_INFLICTED, Attempt, Reason
from router.routing.table import RouteTable
from router.routing.target import Target
from router.store.admin import DISCARDED
from router.store.protocol import DeliveryRow, Kept, Record, Stage, State, Usage

NOW = 1_000_000.0
QUEUE = Schedule((1.0, 30.0), 3)
TERMS = Terms(ebaas=PLATFORM, grace=60.0, reply_within=8.0, queue=QUEUE)

YES = Attempt(Reason.ACKNOWLEDGED, True, 0.1, 200)
NO = Attempt(Reason.CODE, True, 0.1, 200)


def record(**fields: Any) -> Record:
    new = Record("event", Stage.OPEN, NOW, 1, NOW, NOW + 1, NOW + 62, NOW + 9999)
    return replace(new, **fields)


def kept(**fields: Any) -> Kept:
    return Kept(record(**fields), ())


ONE = Target("one", "")


def row(state: State, **fields: Any) -> DeliveryRow:
    return replace(DeliveryRow("one", state, "timeout"), **fields)


def result(
    attempt: Attempt | None,
    before: State | None = None,
    *,
    required: bool = True,
    target: Target = ONE,
) -> Delivery:
    made = Delivery(target, required, None if before is None else row(before))
    made.attempt, made.ends_by = attempt, NOW + 5
    return made


@pytest.mark.parametrize(
    ("fields", "claimable"),
    [
        ({}, True),
        ({"credit_until": NOW}, True),
        ({"credit_until": NOW - 1}, False),
        ({"credit_revoked": True}, False),
        ({"stage": Stage.CLOSED}, False),
        ({"stage": Stage.ENDED}, False),
    ],
)
def test_what_may_be_claimed(fields: dict[str, Any], claimable: bool) -> None:
    """An open record whose acknowledgements still count."""
    assert rules.claimable(record(**fields), NOW) is claimable


def test_the_record_whose_retry_is_due_nearest_is_claimed() -> None:
    """Before or after now."""
    records = [kept(event_id=f"{at:+}", due_at=NOW + at) for at in (-40, -3, 5, 60)]
    records.append(kept(event_id="revoked", due_at=NOW, credit_revoked=True))
    names = []
    while nearest := rules.nearest(records, NOW):
        names.append(nearest.record.event_id)
        records.remove(nearest)
    assert names == ["-3", "+5", "-40", "+60"]


@pytest.mark.parametrize(
    ("records", "alone", "cause"),
    [
        ([], True, None),
        ([], False, None),
        ([kept(stage=Stage.CLOSED), kept(stage=Stage.ENDED)], False, None),
        ([kept(credit_until=NOW - 1)], True, Cause.EXPIRED),
        ([kept(credit_revoked=True)], True, Cause.EXPIRED),
        ([kept()], False, Cause.OVERLAP),
    ],
)
def test_why_a_target_may_see_an_event_again(
    records: list[Kept], alone: bool, cause: Cause | None
) -> None:
    """There is a cause if an open record was not claimed."""
    assert rules.cause(records, alone=alone) is cause


def test_what_a_person_has_discarded_is_not_sent_again() -> None:
    """Unless its target is required: then there is no `000` without it."""
    discarded = row(State.SUPERSEDED, reason=DISCARDED)
    optional, required = (Delivery(Target("one", ""), needs, discarded) for needs in (False, True))
    assert (optional.needed, required.needed) == (False, True)
    assert (optional.settled, required.settled) == (True, False)
    assert rules.rows_after_request([optional], record(), NOW, TERMS) == []


def test_the_first_failure_opens_a_record() -> None:
    """Its retry is due after the first wait; its credit lasts twice that and the grace."""
    opened = rules.record_opened("event", NOW - 8, NOW, TERMS, credit_revoked=False)
    assert (opened.stage, opened.requests, opened.first_at) == (Stage.OPEN, 1, NOW - 8)
    assert opened.due_at == NOW + 1
    assert opened.credit_until == NOW + 2 * 1 + 60
    assert opened.ends_at == NOW - 8 + PLATFORM.total() + 21 * 8 + 60


def test_the_last_failure_ends_the_record() -> None:
    """After one request and all its retries the caller makes no other."""
    assert (
        rules.record_failed(record(requests=20), NOW, TERMS, credit_revoked=False).stage
        is Stage.OPEN
    )
    assert (
        rules.record_failed(record(requests=21), NOW, TERMS, credit_revoked=False).stage
        is Stage.ENDED
    )


def test_revoked_credit_stays_revoked() -> None:
    """Neither another failure nor another request restores the credit."""
    for before, now in ((True, False), (False, True)):
        failed = rules.record_failed(record(credit_revoked=before), NOW, TERMS, credit_revoked=now)
        assert failed.credit_revoked


def test_a_record_lives_as_long_as_its_caller_may_retry() -> None:
    """Even if each request takes all its time."""
    at = NOW
    for wait in PLATFORM.all_waits():
        at += TERMS.reply_within + wait
    assert at <= rules.ends_at(NOW, TERMS) - TERMS.reply_within


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (result(YES), row(State.ACKNOWLEDGED, reason="acknowledged")),
        (result(YES, State.DEAD), row(State.ACKNOWLEDGED, reason="acknowledged")),
        (result(NO), row(State.AWAITING, reason="code")),
        (result(None), row(State.AWAITING, reason="")),
        (result(NO, State.QUEUED), row(State.AWAITING, reason="code")),
        (result(None, State.ACKNOWLEDGED), None),
        (result(YES, required=False), row(State.ACKNOWLEDGED, reason="acknowledged")),
        (result(NO, required=False), row(State.QUEUED, reason="code", due_at=NOW + 1)),
        (
            result(None, required=False),
            row(State.QUEUED, reason="", due_at=NOW + 5, recover_at=NOW + 5),
        ),
        (
            result(Attempt(Reason.ELSEWHERE, False, 1.0), State.AWAITING, required=False),
            row(State.QUEUED, reason="elsewhere", due_at=NOW + 5, recover_at=NOW + 5),
        ),
        (result(NO, State.DEAD), row(State.AWAITING, reason="code")),
        (result(None, State.QUEUED, required=False), None),
        (result(NO, State.DEAD, required=False), None),
        (result(None, State.ACKNOWLEDGED, required=False), None),
    ],
)
def test_what_a_failed_request_leaves(given: Delivery, left: DeliveryRow | None) -> None:
    """A required delivery awaits the caller's retry, an optional one is queued."""
    assert rules.rows_after_request([given], record(), NOW, TERMS) == (
        [] if left is None else [left]
    )


@pytest.mark.parametrize(
    ("retries", "state", "due"), [(2, State.QUEUED, NOW + 7), (0, State.DEAD, NOW + 5)]
)
def test_the_first_retry_is_by_the_targets_own_schedule(
    retries: int, state: State, due: float
) -> None:
    """Without retries it is a dead letter at once."""
    target = Target("one", "http://127.0.0.1/", queue=Schedule((7.0,), retries))
    failed = result(NO, required=False, target=target)
    (left,) = rules.rows_after_request([failed], record(), NOW, TERMS)
    assert (left.state, left.due_at) == (state, due)


def test_what_the_last_request_leaves_is_a_dead_letter() -> None:
    """Only a person can send it again."""
    ended = record(stage=Stage.ENDED)
    assert rules.rows_after_request([result(NO)], ended, NOW, TERMS) == [
        row(State.DEAD, reason="code")
    ]


@pytest.mark.parametrize(
    ("before", "targets", "left"),
    [
        (State.AWAITING, ["one"], State.SUPERSEDED),
        (State.QUEUED, ["one"], State.SUPERSEDED),
        (State.AWAITING, [], State.SUPERSEDED),
        (State.QUEUED, [], None),
        (State.ACKNOWLEDGED, [], None),
        (State.DEAD, [], None),
    ],
)
def test_what_becomes_of_a_delivery_that_left_the_plan(
    before: State, targets: list[str], left: State | None
) -> None:
    """Superseded; a queued one without a target is left to the queue."""
    records = rules.left_behind({"one": row(before)}, ["two"], targets)
    assert [superseded.state for superseded in records] == ([] if left is None else [left])
    assert rules.left_behind({"one": row(before)}, ["one"], targets) == []


def test_the_queue_retries_by_its_waits_and_then_gives_up() -> None:
    """A wait after each failure, the last one again; then it is a dead letter with its reason."""
    queued = row(State.QUEUED, retries=0)
    waits = []
    while queued.state is State.QUEUED:
        queued = rules.row_after_retry(queued, NO, NOW, QUEUE)
        waits.append(queued.due_at - NOW if queued.state is State.QUEUED else None)
        queued = replace(queued, retries=queued.retries + 1)
    assert waits == [1.0, 30.0, 30.0, None]
    assert (queued.state, queued.reason) == (State.DEAD, "code")


@pytest.mark.parametrize("reason", sorted(SELF_INFLICTED))
def test_an_attempt_that_the_router_held_back_costs_no_retry(reason: Reason) -> None:
    """Even the last one stays: it is due again after the shortest wait, with its old reason."""
    held = Attempt(reason, False, 0.1)
    last = row(State.QUEUED, retries=QUEUE.retries)
    assert rules.row_after_retry(last, held, NOW, QUEUE) == replace(last, due_at=NOW + 1)


@pytest.mark.parametrize(("asked", "due"), [(0.5, 1.0), (20.0, 20.0), (86400.0, 30.0)])
def test_retry_after_is_honoured_up_to_the_longest_wait(asked: float, due: float) -> None:
    """No sooner than the target asks, and never later than the longest wait of the queue."""
    busy = Attempt(Reason.STATUS, True, 0.1, 503, retry_after=asked)
    assert rules.row_after_retry(row(State.QUEUED), busy, NOW, QUEUE).due_at == NOW + due


@pytest.mark.parametrize(
    ("ends", "due", "at"),
    [
        ({}, {}, {}),
        ({"one": NOW + 50}, {}, {"one": NOW + 50}),
        ({}, {("one", 0): NOW + 1}, {"one": NOW + 1 + 30 + 30}),
        ({}, {("one", 1): NOW + 30}, {"one": NOW + 30 + 30}),
        ({}, {("one", 2): NOW + 30}, {"one": NOW + 30}),
        ({}, {("one", 7): NOW + 30}, {"one": NOW + 30}),
        ({}, {("one", 0): NOW + 1, ("one", 2): NOW + 59}, {"one": NOW + 59}),
        ({}, {("one", 1): NOW - 500}, {"one": NOW + 30}),
        ({"one": NOW + 9}, {("one", 2): NOW + 8}, {"one": NOW + 8}),
        ({"one": NOW + 7}, {("one", 2): NOW + 8}, {"one": NOW + 7}),
        ({"one": NOW + 7}, {("two", 2): NOW + 8}, {"one": NOW + 7, "two": NOW + 8}),
        ({}, {("own", 0): NOW + 1, ("gone", 2): NOW}, {"own": NOW + 1 + 5, "gone": NOW}),
    ],
)
def test_when_an_event_expires(
    ends: dict[str, float], due: dict[tuple[str, int], float], at: dict[str, float]
) -> None:
    """After its caller's last request or the queue's last retry, whichever is first. A retry that
    is held back does not bring the end nearer, and a target's own schedule counts."""
    usage = Usage(1, 1, {}, 0.0, first_ends=ends, first_due=due)
    own = Target("own", "http://127.0.0.1/", queue=Schedule((5.0,), 2))
    in_force = InForce(RouteTable([], {"own": own}), TERMS)
    assert rules.expires_at(usage, in_force, NOW) == at
