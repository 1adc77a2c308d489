"""The breaker: opens on a share of failures, sends one probe, and is swayed by nothing old."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.delivery.target.gate import SLICES, Breaker, BreakerState
from router.routing.target import BreakerPolicy

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
POLICY = BreakerPolicy(failures=0.5, of_at_least=4, within=30.0, pause=10.0)


@dataclass
class Scene:
    """A breaker, its clock, and every state that it has been in."""

    policy: BreakerPolicy = POLICY
    time: float = 1000.0
    states: list[BreakerState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.policy, lambda: self.time, self.states.append)

    def attempt(self, failed: bool | None) -> bool:
        """One attempt from its beginning to its end; whether it was let begin."""
        turn = self.breaker.begin()
        if turn is None:
            return False
        self.breaker.end(turn, failed)
        return True

    def opened(self) -> Scene:
        for _ in range(self.policy.of_at_least):
            self.attempt(True)
        assert self.breaker.state is OPEN
        return self


def test_it_opens_at_its_share() -> None:
    """Half of at least four: not at three failures alone, nor at two of five."""
    few, some, enough = Scene(), Scene(), Scene()
    for _ in range(3):
        few.attempt(True)
    for failed in (False, False, True, False, True):
        some.attempt(failed)
    for failed in (False, False, True, True):
        enough.attempt(failed)
    assert [scene.breaker.state for scene in (few, some, enough)] == [CLOSED, CLOSED, OPEN]


def test_what_is_old_does_not_count() -> None:
    """Failures that are further apart than the window open nothing."""
    scene = Scene()
    for _ in range(20):
        scene.attempt(True)
        scene.time += POLICY.within / 3
    assert scene.breaker.state is CLOSED


def test_an_open_one_lets_nothing_begin_until_its_pause_is_over() -> None:
    """Then exactly one attempt, however many ask."""
    scene = Scene().opened()
    scene.time += POLICY.pause - 0.01
    assert scene.breaker.refuses
    assert scene.breaker.begin() is None
    scene.time += 0.01
    assert not scene.breaker.refuses
    assert [scene.breaker.begin() is not None for _ in range(5)] == [True] + [False] * 4


def test_a_probe_that_succeeds_closes_it() -> None:
    """And nothing of what was before counts any more."""
    scene = Scene().opened()
    scene.time += POLICY.pause
    assert scene.attempt(False)
    assert scene.states == [OPEN, HALF_OPEN, CLOSED]
    for _ in range(POLICY.of_at_least - 1):
        scene.attempt(True)
    assert scene.breaker.state is CLOSED


def test_a_probe_that_fails_opens_it_for_another_pause() -> None:
    """Counted from the probe's end."""
    scene = Scene().opened()
    scene.time += POLICY.pause
    assert scene.attempt(True)
    scene.time += POLICY.pause - 0.01
    assert not scene.attempt(False)
    scene.time += 0.01
    assert scene.attempt(False)
    assert scene.states == [OPEN, HALF_OPEN, OPEN, HALF_OPEN, CLOSED]


def test_a_probe_that_tells_nothing_makes_way_for_the_next() -> None:
    """One that was cancelled neither opens nor closes it, and does not block it for ever."""
    scene = Scene().opened()
    scene.time += POLICY.pause
    assert scene.attempt(None)
    assert scene.breaker.state is HALF_OPEN
    assert scene.attempt(False)
    assert scene.breaker.state is CLOSED


def test_what_began_before_has_no_say_after() -> None:
    """A hundred slow attempts that end while it is half open, or closed again, change nothing."""
    scene = Scene()
    old = [scene.breaker.begin() for _ in range(100)]
    scene.opened()
    scene.time += POLICY.pause
    probe = scene.breaker.begin()
    for turn in old:
        assert turn is not None
        scene.breaker.end(turn, True)
        scene.breaker.end(turn, False)
    assert scene.breaker.state is HALF_OPEN
    assert probe is not None
    scene.breaker.end(probe, False)
    for turn in old:
        assert turn is not None
        scene.breaker.end(turn, True)
    assert scene.breaker.state is CLOSED


def test_cancellations_count_as_nothing() -> None:
    """However many: they are no failures, and don't make failures rarer either."""
    scene = Scene()
    for _ in range(1000):
        scene.attempt(None)
    scene.opened()


_STEPS = st.lists(
    st.one_of(  # None begins an attempt, a pair ends one, a number lets time pass
        st.none(),
        st.tuples(st.integers(0, 5), st.sampled_from([True, True, False, None])),
        st.floats(0.0, 12.0),
    ),
    max_size=120,
)


@given(steps=_STEPS, share=st.sampled_from([0.1, 0.5, 1.0]), least=st.integers(1, 6))
def test_it_is_what_it_says_whatever_happens(
    steps: list[tuple[int, bool | None] | float | None], share: float, least: int
) -> None:
    """It opens where the window's share and number ask for it and nowhere else; what is open lets
    nothing begin before its pause is over; what is half open has one attempt in flight at most."""
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
                assert (breaker.state is OPEN) == (failed and _asked_for(ends, policy))
        if len(scene.states) != changes:
            ends.clear()
            if breaker.state is OPEN:
                opened_at = scene.time


def _asked_for(ends: list[tuple[float, bool]], policy: BreakerPolicy) -> bool:
    """Counted anew, by slices as the window forgets."""
    width = policy.within / SLICES
    oldest = int(ends[-1][0] / width) - SLICES
    counted = [failed for at, failed in ends if int(at / width) > oldest]
    return len(counted) >= policy.of_at_least and sum(counted) >= policy.failures * len(counted)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_it_does_open(share: float) -> None:
    """With steady traffic of that share of failures, within the least number of attempts."""
    scene = Scene(BreakerPolicy(share, of_at_least=20, within=30.0))
    every = round(1 / share)
    for n in range(20 + every):
        scene.attempt((n + 1) % every == 0)
        scene.time += 0.1
    assert scene.states[0] is OPEN
