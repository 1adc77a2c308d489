"""All metrics as one collector of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from router.telemetry.metrics import PROCESS, TARGET, Metric, Metrics


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
            yield _family(metric, (), {(): getattr(self._metrics, name)})
        for name, metric in TARGET.items():
            targets = self._metrics.targets.items()
            yield _family(
                metric, ("target",), {(t,): getattr(numbers, name) for t, numbers in targets}
            )


def _family(metric: Metric, names: tuple[str, ...], held: dict[tuple[str, ...], Any]) -> Family:
    """Return a metric with all its series. `held` has their values, by those of the labels."""
    if metric.label is not None:
        names = (*names, metric.label.name)
    about = metric.full_name, metric.help
    if metric.kind == "info":
        info = InfoMetricFamily(about[0].removesuffix("_info"), metric.help, labels=names)
        for labels, values in held.items():
            if values:
                info.add_metric(labels, values)
        return info
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(*about, labels=names)
        bounds = [*(f"{float(bound)}" for bound in metric.buckets), "+Inf"]
        for labels, counted in held.items():
            buckets = [*zip(bounds, accumulate(counted.counts), strict=True)]
            histogram.add_metric(labels, buckets, counted.sum)
        return histogram
    is_counter = metric.kind == "counter"
    plain = CounterMetricFamily if is_counter else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = plain(*about, labels=names)
    for labels, number in held.items():
        if metric.label is not None:
            for value, count in number.items():
                family.add_metric((*labels, value), count)
        elif number is not None:
            family.add_metric(labels, number)
    return family
