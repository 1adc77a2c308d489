"""Numbers as JSON can carry them, and those of several processes made one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from router.telemetry.metrics.instruments import Counts, Histogram, Merge, Metric, metrics_of
from router.telemetry.metrics.table import OfProcess, OfTarget

#: What a metric's field holds: a number, a number for each value of its label, a histogram as its
#: counts and its sum, or the labels of an info, one mapping for each process that differs.
Value = Any
Values = dict[str, Value]

PROCESS = metrics_of(OfProcess)
TARGET = metrics_of(OfTarget)

_MERGES: dict[Merge, Callable[[Sequence[float]], float]] = {"sum": sum, "max": max, "min": min}


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


def merged(living: Sequence[Snapshot], retired: Sequence[Snapshot]) -> Snapshot:
    """One snapshot for all processes of a service.

    Of those that are gone, the retired ones, counters and histograms count on, for the targets that
    are still there. What is merged may be merged again: many retired ones can be kept as one.
    """
    present = living or retired
    names = dict.fromkeys(name for each in present for name in each["targets"])
    return Snapshot(
        process=_merged(
            PROCESS, [each["process"] for each in living], [each["process"] for each in retired]
        ),
        targets={name: _merged(TARGET, _of(name, living), _of(name, retired)) for name in names},
    )


def _of(target: str, snapshots: Sequence[Snapshot]) -> list[Values]:
    return [each["targets"][target] for each in snapshots if target in each["targets"]]


def _merged(
    metrics: Mapping[str, Metric], living: Sequence[Values], retired: Sequence[Values]
) -> Values:
    result: Values = {}
    for name, metric in metrics.items():
        present = [*living, *retired] if metric.outlives else living
        result[name] = _one([values[name] for values in present if name in values], metric)
    return result


def _one(values: Sequence[Value], metric: Metric) -> Value:
    """One value for several."""
    if metric.kind == "info":
        said = [labels for value in values for labels in value]
        return [labels for at, labels in enumerate(said) if labels not in said[:at]]
    if metric.kind == "histogram":
        empty = [0] * (len(metric.buckets) + 1)
        counts = [sum(each) for each in zip(empty, *(v["counts"] for v in values), strict=True)]
        return {"counts": counts, "sum": sum(value["sum"] for value in values)}
    merge = _MERGES[metric.merge]
    if metric.label is None:
        there = [value for value in values if value is not None]
        return merge(there) if there else metric.first
    words = dict.fromkeys([*metric.label.values, *(word for value in values for word in value)])
    return {word: merge([value.get(word, 0) for value in values] or [0]) for word in words}
