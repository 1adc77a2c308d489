"""All metrics as one collector of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from router.telemetry.metrics import PROCESS, TARGET, Metric, Metrics

_FAMILIES: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
    "info": InfoMetricFamily,
}


def render(metrics: Metrics, accept: str) -> tuple[str, bytes]:
    """Return the content type and the body of a scrape, in the format of its `Accept` header.
    `metrics` must be a copy."""
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # raised for a version that is not a number
        encode, content_type = choose_encoder("")
    return content_type, encode(_Numbers(metrics))


class _Numbers(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        for name, metric in PROCESS.items():
            yield _family(metric, (), [((), getattr(self._metrics, name))])
        targets = self._metrics.targets.items()
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
    family: Any = _FAMILIES[metric.kind](name, metric.help, labels=names)
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
    result: Family = family
    return result
