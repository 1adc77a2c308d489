"""What a metric is, and what holds its numbers while they are counted: plain ints and floats.

Nothing here takes a lock or knows Prometheus. A number is changed on the event loop's thread, or by
one other thread alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

METRIC_PREFIX: Final = "ebaas_router_"

#: `info` is a gauge that is always 1: what it says is in its labels.
Kind = Literal["counter", "gauge", "histogram", "info"]

#: The seconds without an occurrence after which a Recent counts anew: EBaaS waits at most an hour
#: for a retry.
RECENT_GAP: Final = 3900.0

_UNITS: Final = ("seconds", "bytes", "ratio")


@dataclass(frozen=True, slots=True)
class Label:
    """One dimension of a metric, and the values that exist from the start. They are words of the
    router's own: never of an event's content."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. Its `target` label goes without saying where targets have it."""

    name: str
    kind: Kind
    help: str
    label: Label | None = None
    #: Upper bounds of a histogram's buckets; `+Inf` comes by itself.
    buckets: tuple[float, ...] = ()
    #: Its number may be None: then there is no series.
    may_be_absent: bool = False

    @property
    def full_name(self) -> str:
        return METRIC_PREFIX + self.name

    @property
    def unit(self) -> str:
        """By the convention of its name; `""` for plain numbers."""
        return next((unit for unit in _UNITS if self.name.endswith("_" + unit)), "")

    @property
    def first(self) -> int | None:
        """What its number is at first, where it has no label."""
        return None if self.may_be_absent else 0


class Counts(dict[str, float]):
    """A number for each value of a label. One that was not there from the start begins at 0."""

    def __missing__(self, _: str) -> float:
        return 0


class Histogram:
    """How often a value fell into each bucket, and the sum of all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: One more than the bounds: the last is for what is above all of them.
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Recent:
    """How often something has happened lately. After RECENT_GAP seconds without it the next
    occurrence starts a new count. Times are Unix time, in seconds; 0 is never."""

    count: int = 0
    since: float = 0.0
    last: float = 0.0

    def add(self, now: float) -> None:
        if now - self.last >= RECENT_GAP:
            self.count, self.since = 0, now
        self.count += 1
        self.last = now


# What declares a field of a table; the field's type says what holds the number.


def counter(name: str, help: str, label: Label | None = None) -> Any:
    """An int, or Counts where there is a label."""
    return _number(Metric(name, "counter", help, label))


def gauge(
    name: str,
    help: str,
    label: Label | None = None,
    *,
    may_be_absent: bool = False,
) -> Any:
    """An int or a float, or Counts where there is a label; None at first where it may be absent."""
    return _number(Metric(name, "gauge", help, label, may_be_absent=may_be_absent))


def histogram(name: str, help: str, buckets: tuple[float, ...]) -> Any:
    """A Histogram."""
    metric = Metric(name, "histogram", help, buckets=buckets)
    return field(default_factory=lambda: Histogram(buckets), metadata={"metric": metric})


def info(name: str, help: str) -> Any:
    """A mapping of label to value; empty while there is nothing to say."""
    return field(default_factory=dict, metadata={"metric": Metric(name, "info", help)})


def _number(metric: Metric) -> Any:
    label = metric.label
    if label is None:
        return field(default=metric.first, metadata={"metric": metric})
    return field(
        default_factory=lambda: Counts(dict.fromkeys(label.values, 0)), metadata={"metric": metric}
    )


def metrics_of(table: type) -> Mapping[str, Metric]:
    """The metrics that a table declares, by field."""
    return {
        each.name: each.metadata["metric"] for each in fields(table) if "metric" in each.metadata
    }
