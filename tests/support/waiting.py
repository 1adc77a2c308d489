"""Waiting for what real things do, with an end to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.command import PATIENCE

T = TypeVar("T")


async def until(condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """What the condition gives, once it holds; the loop goes on meanwhile."""
    async with asyncio.timeout(patience):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    return found


def wait_until(condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """The same where no loop has to go on: for threads and processes."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found
