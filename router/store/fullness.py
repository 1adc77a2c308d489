"""How much an event takes up in a store, and how full one is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from router.model.event import Event
from router.store.promises import State, StoreLimits, Usage

#: What an event takes up besides its body and key, with its rows and index entries, in bytes.
OVERHEAD = 1024


def size_of(event: Event) -> int:
    """In bytes, as it counts for the limits."""
    return OVERHEAD + len(event.body) + len(event.event_key)


def usage(
    counted: Iterable[tuple[str, str, int, int]], oldest: float | None, limits: StoreLimits
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


def fitting(
    sizes: Sequence[int], whole: tuple[int, int], of_target: tuple[int, int], limits: StoreLimits
) -> int:
    """How many of these, the first ones, a person may still add: within a target's share, and in
    half of the store, for the rest is for what comes. Both are used by so many rows and bytes."""
    for count, size in enumerate(accumulate(sizes), 1):
        for (rows, used), part in ((whole, 0.5), (of_target, limits.share)):
            if rows + count > limits.max_rows * part or used + size > limits.max_bytes * part:
                return count - 1
    return len(sizes)
