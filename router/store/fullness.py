"""How much an event takes up in a store, and how full one is."""

from __future__ import annotations

from collections.abc import Iterable

from router.model import Event
from router.store import Limits, State, Usage

#: What an event takes up besides its body and key, with its rows and index entries, in bytes.
OVERHEAD = 1024


def size_of(event: Event) -> int:
    """In bytes, as it counts for the limits."""
    return OVERHEAD + len(event.body) + len(event.event_key)


def usage(
    counted: Iterable[tuple[str, str, int, int]], oldest: float | None, limits: Limits
) -> Usage:
    """From rows of target, state, number and bytes: the events under `""` and `""`, the unsettled
    deliveries under their targets and states."""
    found = {(target, state): (rows, size) for target, state, rows, size in counted}
    rows, size = found.pop(("", ""), (0, 0))
    by_target: dict[str, tuple[int, int]] = {}
    for (target, _), (some, some_bytes) in found.items():
        before = by_target.get(target, (0, 0))
        by_target[target] = (before[0] + some, before[1] + some_bytes)
    shares = [
        (max(some / limits.max_rows, some_bytes / limits.max_bytes) / limits.share, target)
        for target, (some, some_bytes) in by_target.items()
    ]
    whole = max(rows / limits.max_rows, size / limits.max_bytes)
    parts = [(whole, ""), *shares]
    fullest, fullest_of = max(parts)
    full = frozenset(name for part, name in parts if part >= 1.0)
    counts = {(target, State(state)): some for (target, state), (some, _) in found.items()}
    return Usage(rows, size, counts, fullest, fullest_of, oldest, full)
