"""The breaker: opens on a share of failures, sends one probe, and ignores old results."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from router.delivery.target.gate import SLICES, Breaker, BreakerState
from router.routing.target import BreakerPolicy

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


@dataclass
class Scene:
    """A breaker, its clock, and every state that it has been in."""

    policy: BreakerPolicy
    time: float = 1000.0
    states: list[BreakerState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.policy, lambda: self.time)
        self.breaker.changed = self.states.append

    def attempt(self, failed: bool) -> None:
        turn = self.breaker.begin()
        assert turn is not None
        self.breaker.end(turn, failed)


def test_an_attempt_from_before_a_change_does_not_count() -> None:
    """Neither for the pause, nor as the probe, nor among the results after it."""
    policy = BreakerPolicy(0.5, of_at_least=4, within=30.0, pause=10.0)
    scene = Scene(policy)
    old = [scene.breaker.begin() or 0 for _ in range(3)]
    for _ in range(4):
        scene.attempt(True)
    scene.time += policy.pause - 0.01
    scene.breaker.end(old[0], True)
    scene.time += 0.01
    probe = scene.breaker.begin()
    assert probe is not None
    scene.breaker.end(old[1], True)
    scene.breaker.end(probe, False)
    for _ in range(policy.of_at_least - 1):
        scene.attempt(True)
    scene.breaker.end(old[2], True)
    assert scene.states == [OPEN, HALF_OPEN, CLOSED]


_STEPS = st.lists(
    st.one_of(  # None begins an attempt, a pair ends one, a number lets time pass
        st.none(),
        st.tuples(st.integers(0, 5), st.sampled_from([True, True, False, None])),
        st.floats(0.0, 12.0),
    ),
    max_size=120,
)


@given(steps=_STEPS, share=st.sampled_from([0.1, 0.5, 1.0]), least=st.integers(1, 6))
def test_it_follows_its_policy_in_any_history(
    steps: list[tuple[int, bool | None] | float | None], share: float, least: int
) -> None:
    """It opens exactly when the share and the number of failures in the window require it; an open
    breaker admits nothing before its pause is over; a half-open one has at most one attempt in
    flight; an attempt from before the last change of state does not count. A probe that tells
    nothing makes way for the next."""
    policy = BreakerPolicy(share, least, within=20.0, pause=8.0)
    scene = Scene(policy)
    breaker = scene.breaker
    #: Its turn, and how many changes of state there had been when it began.
    in_flight: list[tuple[int, int]] = []
    ends: list[tuple[float, bool]] = []
    opened_at = 0.0
    for step in steps:
        before, changes = breaker.state, len(scene.states)
        if isinstance(step, float):
            scene.time += step
        elif step is None:
            turn = breaker.begin()
            if before is CLOSED:
                assert turn is not None
            if before is OPEN:
                assert (turn is None) == (scene.time < opened_at + policy.pause)
            if turn is not None:
                in_flight.append((turn, len(scene.states)))
                assert breaker.state is CLOSED or in_flight.count(in_flight[-1]) == 1
        elif in_flight:
            turn, began = in_flight.pop(step[0] % len(in_flight))
            failed = step[1]
            breaker.end(turn, failed)
            if began != changes:
                assert breaker.state is before
            elif before is CLOSED and failed is not None:
                ends.append((scene.time, failed))
                assert (breaker.state is OPEN) == (failed and _is_required(ends, policy))
            elif before is HALF_OPEN:
                assert breaker.state is {True: OPEN, False: CLOSED, None: HALF_OPEN}[failed]
        if len(scene.states) != changes:
            ends.clear()
            if breaker.state is OPEN:
                opened_at = scene.time


def _is_required(ends: list[tuple[float, bool]], policy: BreakerPolicy) -> bool:
    """Count anew, by the slices of the window."""
    width = policy.within / SLICES
    oldest = int(ends[-1][0] / width) - SLICES
    counted = [failed for at, failed in ends if int(at / width) > oldest]
    return len(counted) >= policy.of_at_least and sum(counted) >= policy.failures * len(counted)
