"""The effort of tests. With LONG=1, which `make test-long` and others set, they also do what
`make test` leaves out."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

LONG = "LONG" in os.environ

long = pytest.mark.skipif(not LONG, reason="a long one: make faults")

#: Multiplies the number of examples, and makes them random. `make torture` sets it. Otherwise each
#: run has the same examples, so that a check does not fail by chance.
TORTURE = int(os.environ.get("TORTURE", "0"))


def many(count: int) -> int:
    """Return the number of examples: a third of them, all with LONG=1, or a multiple."""
    return count * TORTURE if TORTURE else count if LONG else count // 3


def examples(count: int) -> settings:
    return settings(max_examples=many(count))
