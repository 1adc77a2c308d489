"""Print docs/metrics.md from the table of metrics: python -m scripts.metrics_page"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from router.telemetry.metrics import PROCESS, REMOVED, TARGET, Label, Metric

HEAD = f"""\
# Metrics

Generated from the table in `router/telemetry/metrics.py` by `make docs`; a test fails if it is
stale. Queries are in [ops.md](ops.md), alerts in [alerts.md](alerts.md).

Every series exists from the start with the value 0, for every target of the configuration in force,
unless its meaning says that it may be absent. When a reload removes a target, its series disappear;
its remaining attempts and dead letters are counted for the target `{REMOVED}`. Labels never contain
anything from an event.
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
        labels = (*labels, "its information")
    return f"`{metric.full_name}`", metric.kind, ", ".join(labels), metric.help


def _labels(metrics: Iterable[Metric]) -> list[str]:
    """Return the values of each label; a label may have other values for other metrics."""
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
    return ["## Buckets", "", *_table(("of", "upper bounds, in seconds, besides `+Inf`"), rows)]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [_line(head), _line(("---",) * len(head)), *map(_line, rows)]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page() + "\n")
