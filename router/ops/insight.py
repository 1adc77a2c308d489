"""The running router, as the ops port reads it: a report of how it does, and the configuration."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from router.config.explaining import Explained, RefusedEvent, explained, refused
from router.config.reload import Standing
from router.model.errors import Refused
from router.model.event import Event
from router.model.secret import MASK
from router.ops.hour import History, Minute
from router.routing.table import Route
from router.routing.target import Target
from router.store.nodes import Node
from router.store.shapes import NodeShape, node_shape
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


class RateFacts(TypedDict):
    """How often each process of the router may call a target."""

    per_second: float
    burst: int


class TargetFacts(TypedDict):
    """What is written of a target, without secrets."""

    owner: str
    #: As `check --print` prints it.
    url: str
    rate: RateFacts | None
    paused: bool


class RouteFacts(TypedDict):
    """One route: what it matches, by field, and which targets are then required or optional."""

    name: str
    #: Its path, as it was given to the router.
    file: str
    line: int
    match: dict[str, list[str]]
    required: list[str]
    optional: list[str]


class TableFacts(TypedDict):
    """The configuration in force."""

    hash: str
    #: When it was taken; Unix time, in seconds.
    since: float
    unmatched: str
    #: How many requests EBaaS makes of an event.
    requests: int
    targets: dict[str, TargetFacts]
    #: In the files' order.
    routes: list[RouteFacts]


def table_of(standing: Standing) -> TableFacts:
    config = standing.config
    return TableFacts(
        hash=config.hash,
        since=standing.since,
        unmatched=config.unmatched,
        requests=1 + config.ebaas.schedule.retries,
        targets={name: _target(each) for name, each in config.table.targets.items()},
        routes=[_route(each) for each in config.table.routes_as_written],
    )


def _target(target: Target) -> TargetFacts:
    rate = target.rate
    return TargetFacts(
        owner=target.owner,
        url=target.public_url or MASK,
        rate=None if rate is None else RateFacts(per_second=rate.per_second, burst=rate.burst),
        paused=target.paused,
    )


def _route(route: Route) -> RouteFacts:
    return RouteFacts(
        name=route.name,
        file=route.file,
        line=route.line,
        match={field: [*patterns] for field, patterns in route.match.items()},
        required=[*route.required],
        optional=[*route.optional],
    )


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
        self._standing = standing
        self._intake = intake
        #: The counts of each minute of the last hour, by the minute's number.
        self.minutes: Callable[[], dict[int, Minute]] = history.minutes
        self.log = log

    @property
    def configuration(self) -> str:
        """The hash of the configuration in force."""
        return self._standing.config.hash

    def owners(self) -> Mapping[str, str]:
        """The owner of each target of the configuration in force."""
        targets = self._standing.config.table.targets
        return {name: target.owner for name, target in targets.items()}

    def node(self) -> NodeShape:
        """This process, as a node of those that share a store."""
        return node_shape(self._describe())

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
