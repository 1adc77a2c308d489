"""The events of a replay: each once, in the order of time, even if it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from router.archive.reading import Question, Sources
from router.archive.segments import SegmentStore, segments_in, time_of
from router.archive.trace.replay import Again, id_of
from router.store.admin import ReplayPlace
from tests.support.archived import event_line

AGAIN = Again("ledger", Question())


def chosen(folder: Path, again: Again) -> list[str]:
    return [event.event_id for event in again.choose(Sources(folder, note=pytest.fail))]


def write(folder: Path, lines: list[bytes], random: Random) -> None:
    clock = [0.0]
    store = SegmentStore(folder, 1 << 40, 30 * 86400.0, now=lambda: clock[0])
    for line in lines:
        clock[0] = datetime.fromisoformat(time_of(line).decode()).timestamp() + random.random() * 4
        store.append([line])
        if random.random() < 0.1:
            store.close() if random.random() < 0.5 else store.turn()
    store.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_stopped_one_goes_on_though_segments_have_come_and_gone(
    tmp_path: Path, seed: int
) -> None:
    """No event is skipped and none is taken twice, though clocks jumped as well."""
    random = Random(seed)
    times = [7200 - number * 10 + random.choice((0, 0, 0, 3600, -3600)) for number in range(200)]
    lines = [event_line(f"event-{n}", ago=ago) for n, ago in enumerate(times)]
    write(tmp_path, lines, random)
    every = chosen(tmp_path, AGAIN)
    in_order = sorted(lines, key=lambda line: (time_of(line), json.loads(line)["event_id"]))
    assert every == [json.loads(line)["event_id"] for line in in_order]
    for stop in sorted(random.sample(range(200), 5)):
        taken = list(AGAIN.choose(Sources(tmp_path, note=pytest.fail)))
        last = next(event for event in taken if event.event_id == every[stop])
        SegmentStore(tmp_path, 1 << 40, 30 * 86400.0).tidy()
        for segment in segments_in(tmp_path):
            if segment.last is not None and segment.last < last.at:
                segment.path.unlink()
        assert (
            chosen(tmp_path, replace(AGAIN, after=ReplayPlace(last.at, id_of(last))))
            == every[stop + 1 :]
        )
