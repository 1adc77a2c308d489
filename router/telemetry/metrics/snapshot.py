"""The numbers at one time, as plain values."""

from __future__ import annotations

from typing import Any, TypedDict

from router.telemetry.metrics.instruments import Counts, Histogram, Metric, metrics_of
from router.telemetry.metrics.table import OfProcess, OfTarget

#: What a metric's field holds: a number, a number for each value of its label, a histogram as its
#: counts and its sum, or the labels of an info in a list, which is empty while there are none.
Value = Any
Values = dict[str, Value]

PROCESS = metrics_of(OfProcess)
TARGET = metrics_of(OfTarget)


class Snapshot(TypedDict):
    """All numbers at one time: the process's own, and those of its targets by name."""

    process: Values
    targets: dict[str, Values]


def values_of(numbers: OfProcess | OfTarget) -> Values:
    metrics = PROCESS if isinstance(numbers, OfProcess) else TARGET
    return {name: _value(getattr(numbers, name), metrics[name]) for name in metrics}


def _value(held: Any, metric: Metric) -> Value:
    if isinstance(held, Histogram):
        return {"counts": list(held.counts), "sum": held.sum}
    if isinstance(held, Counts):
        return dict(held)
    if metric.kind == "info":
        return [dict(held)] if held else []
    return held
