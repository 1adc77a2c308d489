"""The delivery memory against random histories: callers with their schedule, twins, hang-ups, slow
and lying targets, crashes between any two effects, restarts, clock steps, two processes.

`HISTORIES=20000 make test ARGS=tests/model` is the long form; seeds are replayable: `play(seed)`.
"""

from __future__ import annotations

import os

import pytest

from router.model.build import COMPILED
from tests.model.history import play
from tests.model.mutants import ALL, Mutant
from tests.model.weather import SCENES
from tests.support.effort import LONG

#: How many histories are played, about 110 in a second; 400 with LONG=1: `make test-long`.
HISTORIES = int(os.environ.get("HISTORIES", "400" if LONG else "100"))

#: How many of each scene.
SEEDS = HISTORIES // 10

#: How many are tried for a mutant whose own history does not catch it any more.
SEARCH = 2000


@pytest.mark.parametrize("part", range(4))
def test_no_history_breaks_a_promise(part: int) -> None:
    """No `000` without its acknowledgements, no loss, no duplicate without a cause."""
    of_mutants = {mutant.seed for mutant in ALL if not mutant.scene and mutant.seed % 4 == part}
    seeds = {*range(part, HISTORIES, 4), *of_mutants}
    broken = {seed: verdict.violations for seed in seeds if (verdict := play(seed)).violations}
    assert broken == {}


@pytest.mark.parametrize("scene", SCENES)
def test_no_scene_breaks_a_promise(scene: str) -> None:
    """Scenes combine events that a random history hardly ever brings together."""
    seeds = {*range(SEEDS), *(mutant.seed for mutant in ALL if mutant.scene == scene)}
    broken = {seed: play(seed, SCENES[scene]).violations for seed in seeds}
    assert {seed: found for seed, found in broken.items() if found} == {}


@pytest.mark.skipif(not LONG, reason="it tries the tests: make test-long")
@pytest.mark.skipif(COMPILED, reason="nothing can be left out of what is compiled")
@pytest.mark.parametrize("mutant", ALL, ids=[mutant.rule for mutant in ALL])
def test_a_rule_left_out_breaks_a_promise(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule is there because some history needs it."""
    mutant.leave_out(monkeypatch)
    scene = SCENES.get(mutant.scene)
    if not play(mutant.seed, scene).violations:
        caught = next((seed for seed in range(SEARCH) if play(seed, scene).violations), None)
        assert caught is not None, f"{mutant.rule}: nothing is broken by it"


def test_a_history_is_its_seeds() -> None:
    """Played again it is the same one, so that a seed is all that a report needs."""
    for seed in range(HISTORIES // 10):
        assert play(seed) == play(seed)
