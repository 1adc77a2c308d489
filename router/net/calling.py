"""Calling back: who is told of something, and fails at it, is no matter of who tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


def call_back(told: Callable[[Any], object], what: Any) -> None:
    """Call `told(what)`; what that raises is told as that of any callback of the loop."""
    try:
        told(what)
    except Exception as error:  # noqa: BLE001 - whatever it is
        tell_fault(told, error)


def tell_fault(told: Callable[[Any], object], error: Exception) -> None:
    """As that of any callback of the loop; for whom one call more for each is too many."""
    about = {"message": f"{told!r} failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(about)
