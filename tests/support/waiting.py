"""Waiting for conditions, with a timeout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.command import PATIENCE

T = TypeVar("T")


async def until(condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """Wait in the event loop until a condition holds, and return its value."""
    async with asyncio.timeout(patience):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    return found


def wait_until(condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """Wait in a thread until a condition holds, and return its value."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found
