"""The door to prometheus_client: a snapshot as a scrape gets it."""

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
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from router.telemetry.metrics.instruments import Metric
from router.telemetry.metrics.snapshot import PROCESS, TARGET, Snapshot, Value

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily


def render(snapshot: Snapshot, accept: str) -> tuple[str, bytes]:
    """The content type and the body of a scrape, in the format that its `Accept` asks for."""
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:  # it compares a version that is no number with one that is
        encode, content_type = choose_encoder("")
    return content_type, encode(_Scrape(snapshot))


class _Scrape(Collector):
    """A registry that holds one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        for name, metric in PROCESS.items():
            family = _family(metric, ())
            _add(family, metric, (), self._snapshot["process"][name])
            yield family
        for name, metric in TARGET.items():
            family = _family(metric, ("target",))
            for target, values in self._snapshot["targets"].items():
                _add(family, metric, (target,), values[name])
            yield family


def _family(metric: Metric, labels: tuple[str, ...]) -> Family:
    if metric.label is not None:
        labels = (*labels, metric.label.name)
    options: dict[str, Any] = {"labels": labels, "unit": metric.unit}
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.full_name, metric.help, **options)
        case "gauge":
            return GaugeMetricFamily(metric.full_name, metric.help, **options)
        case "histogram":
            return HistogramMetricFamily(metric.full_name, metric.help, **options)
        case "info":
            name = metric.full_name.removesuffix("_info")
            return InfoMetricFamily(name, metric.help, labels=labels)


def _add(family: Family, metric: Metric, labels: tuple[str, ...], value: Value) -> None:
    if isinstance(family, InfoMetricFamily):
        for said in value:
            family.add_metric(labels, said)
    elif isinstance(family, HistogramMetricFamily):
        bounds = [*(f"{float(bound)}" for bound in metric.buckets), "+Inf"]
        cumulated = accumulate(value["counts"])
        family.add_metric(labels, list(zip(bounds, cumulated, strict=True)), value["sum"])
    elif metric.label is None:
        if value is not None:
            family.add_metric(labels, value)
    else:
        for word, number in value.items():
            family.add_metric((*labels, word), number)
