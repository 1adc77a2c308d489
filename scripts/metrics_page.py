"""Print docs/reference/metrics.md, made of the table of metrics: python -m scripts.metrics_page"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from router.telemetry.metrics import PROCESS, REMOVED, TARGET, Label, Metric

HEAD = f"""\
# Metrics

Made from the table in `router/telemetry/metrics.py` by `make docs`; a test fails where it is
stale. Queries are in [monitoring.md](../how-to/monitoring.md), alerts in
[alerts.md](../how-to/alerts.md).

Every series is there from the start at 0, for every target of the configuration in force; where one
may be absent its meaning says so. When a reload removes a target its series go; what still happens
to it, an attempt in flight or a dead letter in the store, is counted for the target `{REMOVED}`. No
label ever has anything of an event in it.
"""

COLUMNS = ("name", "kind", "labels", "meaning")


def page() -> str:
    return "\n".join(
        [
            HEAD,
            *_section("Of the service", PROCESS, ()),
            *_section("Of each target", TARGET, ("target",)),
            *_labels([*PROCESS.values(), *TARGET.values()]),
            *_buckets([*PROCESS.values(), *TARGET.values()]),
        ]
    )


def _section(title: str, metrics: Mapping[str, Metric], labels: tuple[str, ...]) -> list[str]:
    rows = [_row(metric, labels) for metric in metrics.values()]
    return [f"## {title}", "", *_table(COLUMNS, rows), ""]


def _row(metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
    if metric.label is not None:
        labels = (*labels, metric.label.name)
    if metric.kind == "info":
        labels = (*labels, "what it says")
    return f"`{metric.full_name}`", metric.kind, ", ".join(labels), metric.help


def _labels(metrics: Iterable[Metric]) -> list[str]:
    """The labels' values; where metrics differ in a label's, each of them."""
    users: dict[Label, list[str]] = {}
    for metric in metrics:
        if metric.label is not None:
            users.setdefault(metric.label, []).append(f"`{metric.full_name}`")
    rows = [
        (label.name, ", ".join(names), ", ".join(label.values)) for label, names in users.items()
    ]
    return ["## Labels", "", *_table(("label", "of", "values"), rows), ""]


def _buckets(metrics: Iterable[Metric]) -> list[str]:
    rows = [
        (f"`{metric.full_name}`", ", ".join(f"{bound:g}" for bound in metric.buckets))
        for metric in metrics
        if metric.kind == "histogram"
    ]
    return ["## Buckets", "", *_table(("of", "up to, in seconds; and `+Inf`"), rows)]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [_line(head), _line(("---",) * len(head)), *map(_line, rows)]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page() + "\n")
