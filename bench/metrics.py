"""What counting costs: python -m bench.metrics

Per event with three targets, in the process that serves it; and per scrape, by the number of
targets: the snapshot is taken on the event loop, the rendering is done in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from router.model.event import Attempt, Reason
from router.telemetry.metrics import Metrics, merged
from router.telemetry.metrics.exposition import render

TARGETS = ("certificates", "ledger", "audit")
EVENTS = 100_000
ROUNDS = 5


def seconds(work: Callable[[], object], times: int) -> float:
    """CPU time, the best of some rounds, for one time."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - began)
    return best / times


def main() -> None:
    metrics = Metrics()
    metrics.adopt(TARGETS)

    def event() -> None:
        metrics.event("000", 0.012)
        for name in TARGETS:
            metrics.of(name).attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.01, at=1.8e9))

    print(f"an event with {len(TARGETS)} targets: {seconds(event, EVENTS) * 1e6:.2f} µs")
    for count in (3, 100, 1000):
        metrics.adopt(f"target-{number}" for number in range(count))
        snapshot = metrics.snapshot()
        taken = seconds(metrics.snapshot, 3)
        joined = seconds(partial(merged, [snapshot, snapshot], []), 1)
        rendered = seconds(partial(render, snapshot, ""), 1)
        print(
            f"a scrape with {count} targets: snapshot {taken * 1000:.1f} ms,"
            f" two made one {joined * 1000:.1f} ms, rendered {rendered * 1000:.0f} ms,"
            f" {len(render(snapshot, '')[1]) / 1024:.0f} KiB"
        )


if __name__ == "__main__":
    main()
