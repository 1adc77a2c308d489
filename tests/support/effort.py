"""How much a test does: all there is with LONG=1, which `make test-long` and its like set."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

LONG = "LONG" in os.environ

long = pytest.mark.skipif(not LONG, reason="a long one: make faults")

#: How many times as many examples: `make torture` sets it, and rolls the dice anew each time. The
#: same examples again are what everybody else gets: no gate fails who has changed nothing.
TORTURE = int(os.environ.get("TORTURE", "0"))


def many(count: int) -> int:
    """The first third is enough where not all there is is tried."""
    return count * TORTURE if TORTURE else count if LONG else count // 3


def examples(count: int) -> settings:
    """So many examples of a test, a third of it, or a multiple of it."""
    return settings(max_examples=many(count))
