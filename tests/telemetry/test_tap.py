"""The tap: copies of the log's lines for open streams."""

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


def test_lines_beyond_the_bound_are_dropped_and_counted(log: Log) -> None:
    """The newest lines are kept, with their bodies: dropped lines release the room of theirs."""
    tap, body = Tap(), b"x" * (TAP_BODIES // (2 * TAP_LINES))
    log.tap = tap
    tap.take(bodies=True)
    for number in range(4 * TAP_LINES):
        log.write("info", "event", {"number": number}, body)

    lines, dropped = tap.take(bodies=True)

    assert dropped == 3 * TAP_LINES
    assert [(line["number"], len(line["payload"])) for line in read(lines)] == [
        (number, len(body)) for number in range(3 * TAP_LINES, 4 * TAP_LINES)
    ]


def test_bodies_take_bounded_memory(log: Log) -> None:
    """A body without room is left out of its line."""
    tap = log.tap = Tap()
    tap.take(bodies=True)
    for _ in range(3):
        log.write("info", "event", {}, b"x" * (TAP_BODIES // 2))

    lines = read(tap.take(bodies=True)[0])

    assert [len(line.get("payload", "")) for line in lines] == [TAP_BODIES // 2] * 2 + [0]
