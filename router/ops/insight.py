"""The running router, as the ops port reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from router.config.explaining import Explained, RefusedEvent, explained, refused
from router.config.reload import Standing
from router.model.errors import Refused
from router.model.event import Event
from router.ops.report import Report
from router.ops.table import TableFacts, table_of
from router.store.nodes import Node
from router.store.shapes import NodeShape, node_shape
from router.telemetry.log import Log
from router.telemetry.minutes import Minute, Minutes

if TYPE_CHECKING:
    from router.contract.intake import Intake


class Insight:
    """Everything that the ops port reads of the process that serves callbacks."""

    def __init__(
        self,
        report: Callable[[], Report],
        describe: Callable[[], Node],
        standing: Standing,
        intake: Intake,
        minutes: Minutes,
        log: Log,
    ) -> None:
        #: How the router does now.
        self.report = report
        self._describe = describe
        self._standing = standing
        self._intake = intake
        self._minutes = minutes
        #: The lines that the log has written since the last call; with or without bodies.
        self.heard = log.heard

    @property
    def configuration(self) -> str:
        """The hash of the configuration in force."""
        return self._standing.config.hash

    def node(self) -> NodeShape:
        """This process, as a node of those that share a store."""
        return node_shape(self._describe())

    def minutes(self) -> dict[int, Minute]:
        """The counts of each minute of the last hour."""
        return self._minutes.told()

    def reloads(self) -> list[dict[str, Any]]:
        """How the last reloads went."""
        return [asdict(each) for each in self._standing.reloads]

    # These take milliseconds with many routes: call them in a thread.

    def table(self) -> TableFacts:
        """The configuration in force, as far as it may be shown."""
        return table_of(self._standing)

    def explain(self, what: Any) -> Explained | RefusedEvent:
        """Explain a key, or a whole event, which is validated as EBaaS's would be."""
        try:
            if "key" in what:
                event = Event.of({"event_key": what["key"]})
            else:
                event = self._intake.read(json.dumps(what["event"]).encode())
        except Refused as error:
            return refused(error)
        return explained(event, self._standing.config, whole="all" in what)
