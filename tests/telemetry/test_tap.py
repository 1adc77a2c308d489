"""Who listens hears copies of the log's lines, and never holds anybody up."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from router.telemetry.log import Log
from router.telemetry.log.writer import TAP_BODIES, TAP_LASTS, TAP_LINES, Heard, Tap


@pytest.fixture
def log() -> Log:
    return Log(io.StringIO(), "json")


def read(heard: Heard) -> list[dict[str, Any]]:
    return [json.loads(line) for line in heard["lines"]]


def test_who_listens_hears_what_comes_from_then_on(log: Log) -> None:
    """Each line once, as the log has it."""
    log.info("before")
    assert log.heard() == Heard(lines=[], dropped=0)
    log.warning("refused_something", why="a reason")

    (line,) = read(log.heard())

    assert (line["level"], line["happening"], line["why"]) == (
        "warning",
        "refused_something",
        "a reason",
    )
    assert log.heard() == Heard(lines=[], dropped=0)


def test_bodies_are_for_those_who_asked_for_them(log: Log) -> None:
    """Byte for byte, as text; nobody else gets them."""
    body = '{"event_key": "a.gs.名.1"}'
    log.heard()
    log.write("info", "event", {"event_key": "a"}, body.encode())
    (without,) = read(log.heard(bodies=True))
    log.write("info", "event", {"event_key": "a"}, body.encode())
    (with_it,) = read(log.heard(bodies=True))

    assert "payload" not in without
    assert with_it["payload"] == body


def test_what_finds_no_room_is_dropped_and_counted(log: Log) -> None:
    """The newest lines are kept, as many as may wait."""
    log.heard()
    for number in range(TAP_LINES + 3):
        log.info("event", number=number)

    heard = log.heard()

    assert heard["dropped"] == 3
    assert [line["number"] for line in read(heard)] == [*range(3, TAP_LINES + 3)]


def test_bodies_take_bounded_memory() -> None:
    """A body that finds no room is left out of its line; the line stays."""
    tap = Tap()
    tap.take(bodies=True)
    for _ in range(3):
        tap.put(0.0, "info", "event", {}, b"x" * (TAP_BODIES // 2))

    lines = read(tap.take(bodies=True))

    assert [len(line.get("payload", "")) for line in lines] == [TAP_BODIES // 2] * 2 + [0]


def test_nothing_is_kept_for_who_asks_no_more() -> None:
    """A listener that went away without a word costs nothing after a while."""
    now = [0.0]
    tap = Tap(lambda: now[0])
    tap.take(bodies=False)
    now[0] = TAP_LASTS
    assert not tap.is_over
    now[0] = TAP_LASTS + 0.1
    assert tap.is_over
