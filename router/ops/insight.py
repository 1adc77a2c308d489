"""The running router, as the ops port reads it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from router.config.explaining import Explained, RefusedEvent, explained, refused
from router.config.reload import ConfigState
from router.delivery.observations import Observations, ObservedView
from router.model.errors import Refused
from router.model.event import Event
from router.ops.hour import History
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
    """The state of the process at one moment. It never changes, so any thread may read it."""

    #: A copy.
    metrics: Metrics
    config_state: ConfigState
    ready: bool
    #: The kind of the store, and which database, without user and password; `""` on this machine.
    store: tuple[str, str]
    #: The loop's worst lag of the last minute, in seconds.
    lag: float
    #: How EBaaS calls, and how that differs from routes.yaml.
    observed: ObservedView
    #: Asyncio tasks: their number grows if some never finish.
    tasks: int


def report_of(
    metrics: Metrics,
    config_state: ConfigState,
    observations: Observations,
    *,
    ready: bool,
    store: tuple[str, str],
    lag: float,
) -> Report:
    """Return a report; called on the event loop."""
    observed, tasks = observations.view(config_state.config.terms), len(asyncio.all_tasks())
    return Report(metrics.copy(), replace(config_state), ready, store, lag, observed, tasks)


def utc_or_none(at: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the second; None for 0, which means never."""
    return utc(at) if at else None


class Insight:
    """Everything that the ops port reads of the process that serves callbacks."""

    def __init__(
        self,
        report: Callable[[], Report],
        describe: Callable[[], Node],
        config_state: ConfigState,
        intake: Intake,
        history: History,
        log: Log,
    ) -> None:
        #: Returns the state of the process.
        self.report = report
        self._describe = describe
        self.config_state = config_state
        self._intake = intake
        #: Returns the counts of each minute of the last hour, by the minute's number.
        self.minutes = history.minutes
        self.log = log

    def owner_of(self, target: str) -> str:
        """Return a target's owner, `""` if it is not in the configuration."""
        known = self.config_state.config.table.targets.get(target)
        return "" if known is None else known.owner

    def node(self) -> NodeView:
        """Return this process as one of the nodes that share a store."""
        return node_view(self._describe())

    def explain(
        self, key: str | None, content: Mapping[str, Any] | None, *, whole: bool
    ) -> Explained | RefusedEvent:
        """Explain a key, or an event, which is validated as EBaaS's would be. Call it in a thread:
        with many routes it takes milliseconds."""
        try:
            if key is not None:
                event = Event.of({"event_key": key})
            else:
                event = self._intake.read(json.dumps(content).encode())
        except Refused as error:
            return refused(error)
        return explained(event, self.config_state.config, whole=whole)
