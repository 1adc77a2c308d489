"""What there is for one holder: all of the service, or what concerns the holder's own targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from router.config.holders import Holder
from router.ops.report import Report
from router.ops.table import RouteFacts, TableFacts
from router.telemetry.metrics import Snapshot

T = TypeVar("T")


class View:
    """Made anew for each request, of a report. What it has not, is not there for
    the holder: nothing else of the API decides that."""

    def __init__(self, holder: Holder, report: Report, table: TableFacts) -> None:
        self.who, self.is_whole = holder.name, not holder.owner
        if self.is_whole:
            self.table, self.report = table, report
        else:
            names = {name for name, each in table["targets"].items() if holder.sees(each["owner"])}
            self.table, self.report = _narrowed_table(table, names), narrowed(report, names)
        #: The targets of the configuration in force that there are.
        self.targets = self.table["targets"]

    def has(self, target: str) -> bool:
        """Whether a target is there, be it in no configuration any more."""
        return self.is_whole or target in self.targets

    def among(self, targets: Collection[str]) -> tuple[str, ...] | None:
        """Those of the targets that there are, of all where none is named; None for no bound, where
        all there are is meant and everything is there."""
        if self.is_whole:
            return tuple(targets) or None
        return tuple(each for each in targets or self.targets if each in self.targets)


def _narrowed_table(table: TableFacts, names: Collection[str]) -> TableFacts:
    routes: list[RouteFacts] = [
        {
            **each,
            "required": [name for name in each["required"] if name in names],
            "optional": [name for name in each["optional"] if name in names],
        }
        for each in table["routes"]
    ]
    return {
        **table,
        "targets": {name: each for name, each in table["targets"].items() if name in names},
        "routes": [each for each in routes if each["required"] or each["optional"]],
    }


def narrowed(report: Report, names: Collection[str]) -> Report:
    """The same as if there were no other targets; the process's own numbers are those of all."""
    metrics, status = report["metrics"], report["status"]
    return Report(
        metrics=Snapshot(process=metrics["process"], targets=_among(metrics["targets"], names)),
        status={**status, "targets": _among(status["targets"], names)},
    )


def _among(targets: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    return {name: each for name, each in targets.items() if name in names}
