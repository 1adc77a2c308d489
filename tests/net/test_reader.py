"""RestingReader: one piece of work at a time, and a rest after each."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from router.net.loops import RestingReader

pytestmark = pytest.mark.anyio


async def test_it_rests_as_long_as_it_worked() -> None:
    """However many ask at once: the loop has at least half of the time to itself."""
    spans: list[tuple[float, float]] = []

    def work(seconds: float) -> float:
        began = time.monotonic()
        time.sleep(seconds)
        spans.append((began, time.monotonic()))
        return seconds

    reader = RestingReader()
    assert await asyncio.gather(*(reader.do(work, 0.01) for _ in range(5))) == [0.01] * 5
    for (began, ended), (following, _) in pairwise(spans):
        assert following - ended >= min(ended - began, 0.05) * 0.9


async def test_short_work_is_done_without_a_rest() -> None:
    """A rest is as short as the work before it was."""
    ends: list[float] = []
    reader = RestingReader()
    for _ in range(20):
        await reader.do(lambda given: ends.append(given()), time.monotonic)
    assert min(after - before for before, after in pairwise(ends)) < 0.04


async def test_what_fails_holds_up_nothing_after_it() -> None:
    """Whoever asked for it gets the exception."""
    reader = RestingReader()
    with pytest.raises(ValueError, match="x"):
        await reader.do(int, "x")
    assert await reader.do(int, "1") == 1
