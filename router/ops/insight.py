"""The running router, as the ops port reads it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from router.config.explaining import Explained, RefusedEvent, explained, refused
from router.config.reload import Standing
from router.model.errors import Refused
from router.model.event import Event
from router.ops.hour import History, Minute
from router.store.protocol import Node
from router.store.views import NodeView, node_view
from router.telemetry.log import Log
from router.telemetry.log.lines import utc
from router.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from router.contract.intake import Intake

#: When this process started; Unix time, in seconds.
STARTED = time.time()


@dataclass(frozen=True, slots=True)
class Report:
    """How the process does at one moment. It never changes, so any thread may read it."""

    #: A copy.
    metrics: Metrics
    standing: Standing
    ready: bool
    #: The kind of the store, and which database, without user and password; `""` on this machine.
    store: tuple[str, str]
    #: The loop's worst lag of the last minute, in seconds.
    lag: float
    #: Asyncio tasks: their number grows where something is never finished.
    tasks: int


def report_of(
    metrics: Metrics, standing: Standing, *, ready: bool, store: tuple[str, str], lag: float
) -> Report:
    """Return a report; called on the event loop."""
    return Report(metrics.copy(), replace(standing), ready, store, lag, len(asyncio.all_tasks()))


def utc_or_none(at: float | None) -> str | None:
    """ISO 8601 in UTC, to the second; None for 0, which is never."""
    return utc(at) if at else None


class Insight:
    """Everything that the ops port reads of the process that serves callbacks."""

    def __init__(
        self,
        report: Callable[[], Report],
        describe: Callable[[], Node],
        standing: Standing,
        intake: Intake,
        history: History,
        log: Log,
    ) -> None:
        #: How the router does now.
        self.report = report
        self._describe = describe
        self.standing = standing
        self._intake = intake
        #: The counts of each minute of the last hour, by the minute's number.
        self.minutes: Callable[[], dict[int, Minute]] = history.minutes
        self.log = log

    def owner_of(self, target: str) -> str:
        """`""` for one that is not in the configuration."""
        found = self.standing.config.table.targets.get(target)
        return "" if found is None else found.owner

    def node(self) -> NodeView:
        """This process, as a node of those that share a store."""
        return node_view(self._describe())

    def reloads(self) -> list[dict[str, Any]]:
        """How the last reloads went."""
        return [asdict(each) for each in self.standing.reloads]

    def explain(self, what: Any) -> Explained | RefusedEvent:
        """Explain a key, or a whole event, which is validated as EBaaS's would be. With many routes
        it takes milliseconds: call it in a thread."""
        try:
            if "key" in what:
                event = Event.of({"event_key": what["key"]})
            else:
                event = self._intake.read(json.dumps(what["event"]).encode())
        except Refused as error:
            return refused(error)
        return explained(event, self.standing.config, whole="all" in what)
