"""All metrics as one collector of prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

from prometheus_client import core
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from router.telemetry.metrics import PROCESS, TARGET, Metric, Metrics


def scrape_as(accept: str) -> tuple[str, Callable[[Metrics], Iterable[str]]]:
    """Return the content type for the `Accept` header of a scrape, and what renders it."""
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # raised for a version that is not a number
        encode, content_type = choose_encoder("")
    return content_type, lambda metrics: encode(_Numbers(metrics.copy())).decode().splitlines(True)


@dataclass
class _Numbers(Collector):
    metrics: Metrics

    def collect(self) -> Iterator[Family]:
        for name, metric in PROCESS.items():
            yield _family(metric, (), [((), getattr(self.metrics, name))])
        targets = self.metrics.targets.items()
        for name, metric in TARGET.items():
            values = [((target,), getattr(numbers, name)) for target, numbers in targets]
            yield _family(metric, ("target",), values)


def _family(
    metric: Metric, names: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], Any]]
) -> Family:
    """Return a metric with all its series. Each of `values` comes with the labels `names`."""
    if metric.label is not None:
        names = (*names, *metric.label.name.split(","))
    name = metric.full_name.removesuffix("_info")
    kind = getattr(core, f"{metric.kind.title()}MetricFamily")
    family = kind(name, metric.help, labels=names)
    bounds = [*(f"{float(bound)}" for bound in metric.buckets), "+Inf"]
    for labels, value in values:
        if metric.buckets:
            buckets = [*zip(bounds, accumulate(value.counts), strict=True)]
            family.add_metric(labels, buckets, value.sum)
        elif metric.label is not None:
            for label, count in value.items():
                more = label if isinstance(label, tuple) else (label,)
                family.add_metric((*labels, *more), count)
        elif value is not None and value != {}:
            family.add_metric(labels, value)
    return cast("Family", family)
