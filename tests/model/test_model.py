"""The delivery memory against random histories: callers with their schedule, twins, hang-ups, slow
and lying targets, crashes between any two effects, restarts, clock steps, two processes.

`HISTORIES=20000 make test ARGS=tests/model` is the long form; seeds are replayable: `play(seed)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.model import mutants
from tests.model.history import play

#: How many histories are played, about 140 in a second.
HISTORIES = int(os.environ.get("HISTORIES", "400"))

#: The rules whose absence shows within so many histories; the others of ALL take more, or have not
#: been seen to yet.
SOON = 200
CAUGHT = [
    mutants.bodies_known_by_key,
    mutants.optionals_not_queued,
    mutants.failures_not_recorded,
    mutants.all_called_again,
    mutants.left_plan_not_superseded,
    mutants.closed_after_the_reply,
    mutants.credit_never_ends,
    mutants.late_acknowledgement_dropped,
    mutants.records_never_end,
    mutants.retry_has_a_new_id,
    mutants.dead_letters_dropped,
]


@pytest.mark.parametrize("part", range(4))
def test_no_history_breaks_a_promise(part: int) -> None:
    """No `000` without its acknowledgements, nothing lost, no duplicate without a cause."""
    broken = {
        seed: verdict.violations
        for seed in range(part, HISTORIES, 4)
        if (verdict := play(seed)).violations
    }
    assert broken == {}


@pytest.mark.parametrize("leave_out", CAUGHT)
def test_a_rule_left_out_breaks_a_promise(
    leave_out: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rule is there because some history needs it."""
    leave_out(monkeypatch)
    assert any(play(seed).violations for seed in range(SOON))
