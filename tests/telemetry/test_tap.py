"""Open streams get copies of the log's lines, and never hold anybody up."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest

from router.telemetry.log import Log
from router.telemetry.log.writer import TAP_BODIES, TAP_LINES, Tap


@pytest.fixture
def log() -> Log:
    return Log(io.StringIO(), "json")


def read(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_a_tap_gets_what_comes_from_then_on(log: Log) -> None:
    """Each line once, as the log has it, and none once it is taken away."""
    log.info("before")
    tap = log.tap = Tap()
    log.warning("refused_something", why="a reason")
    log.tap = None
    log.info("after")

    lines, dropped = tap.take(bodies=False)

    assert dropped == 0
    (line,) = read(lines)
    assert (line["level"], line["happening"], line["why"]) == (
        "warning",
        "refused_something",
        "a reason",
    )
    assert tap.take(bodies=False) == ([], 0)


def test_bodies_are_for_those_who_asked_for_them(log: Log) -> None:
    """Byte for byte, as text; nobody else gets them."""
    body = '{"event_key": "a.gs.名.1"}'
    tap = log.tap = Tap()
    log.write("info", "event", {"event_key": "a"}, body.encode())
    (without,) = read(tap.take(bodies=True)[0])
    log.write("info", "event", {"event_key": "a"}, body.encode())
    (with_it,) = read(tap.take(bodies=True)[0])

    assert "payload" not in without
    assert with_it["payload"] == body


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    """The newest lines are kept, as many as may wait."""
    tap = Tap()
    for number in range(TAP_LINES + 3):
        tap.put(0.0, "info", "event", {"number": number}, b"")

    lines, dropped = tap.take(bodies=False)

    assert dropped == 3
    assert [line["number"] for line in read(lines)] == [*range(3, TAP_LINES + 3)]


def test_a_line_that_is_dropped_takes_no_room_from_bodies() -> None:
    """However many have come before, the newest lines have theirs."""
    tap, body = Tap(), b"x" * (TAP_BODIES // (2 * TAP_LINES))
    tap.take(bodies=True)
    for _ in range(4 * TAP_LINES):
        tap.put(0.0, "info", "event", {}, body)

    lines, _ = tap.take(bodies=True)

    assert [len(line.get("payload", "")) for line in read(lines)] == [len(body)] * TAP_LINES


def test_bodies_take_bounded_memory() -> None:
    """A body that finds no room is left out of its line; the line stays."""
    tap = Tap()
    tap.take(bodies=True)
    for _ in range(3):
        tap.put(0.0, "info", "event", {}, b"x" * (TAP_BODIES // 2))

    lines = read(tap.take(bodies=True)[0])

    assert [len(line.get("payload", "")) for line in lines] == [TAP_BODIES // 2] * 2 + [0]
