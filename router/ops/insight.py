"""The running router, as its ops port and the nodes that share its store see it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, replace
from secrets import token_urlsafe
from typing import TYPE_CHECKING, TypedDict

from router import __version__
from router.config.reload import ConfigState
from router.delivery.observations import Observations, ObservedView
from router.delivery.recovery import Recoveries
from router.model.event import SUCCESS, new_id
from router.model.secret import Secret
from router.ops.hour import History
from router.ops.streams import Streams
from router.store.protocol import BEAT, Door, Node, Nodes, StoreFailed, Trouble
from router.telemetry.log import Log
from router.telemetry.log.lines import utc
from router.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from router.contract.intake import Intake

#: When this process started; Unix time, in seconds.
STARTED = time.time()

#: How long a beat may take, and how long a stop waits until the row is deleted, in seconds. A row
#: that stays is shown as gone.
BEAT_TIMEOUT, LEAVE_TIMEOUT = 5.0, 1.0

#: How many problems of a refused file, or of all, are shown at most.
MAX_SHOWN_PROBLEMS = 20

#: How many troubles a row has at most.
MAX_TROUBLES = 5


@dataclass(slots=True)
class Identity:
    """The identity of a process, from its start to its end."""

    #: Where it accepts callbacks; known once it listens.
    address: str = ""
    #: Where its ops port is; `""` for none.
    ops_url: str = ""
    #: A token for the ops port, for anybody who may read the store's lock file: see `Door`.
    ops_key: Secret = field(default_factory=lambda: Secret(token_urlsafe(24)))
    node_id: str = field(default_factory=new_id)
    host: str = field(default_factory=socket.gethostname)
    started: float = field(default_factory=time.monotonic)

    @property
    def door(self) -> Door:
        """The address and key for commands on this machine."""
        return Door(self.ops_url, self.ops_key)


@dataclass(frozen=True, slots=True)
class Report:
    """The state of the process, which any thread may read. Its numbers go on."""

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


class RefusedFile(TypedDict):
    """A file whose text on disk is not in force."""

    file: str
    owner: str | None
    #: Its earlier text is in force. False: it was never in force.
    earlier: bool
    #: Empty if the file waits until routes.yaml is right.
    problems: list[str]


def refused_files(config_state: ConfigState) -> list[RefusedFile]:
    in_force = config_state.config.files
    return [
        RefusedFile(
            file=name,
            owner=file.owner or None,
            earlier=name in in_force,
            # In the loader's words: with their positions, without any secret.
            problems=[str(problem) for problem in file.problems[:MAX_SHOWN_PROBLEMS]],
        )
        for name, file in config_state.refused.items()
    ]


def utc_or_none(at: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the second; None for 0, which means never."""
    return utc(at) if at else None


@dataclass(slots=True)
class Insight:
    """Everything that is shown of the process. It is used on the event loop."""

    identity: Identity
    metrics: Metrics
    config_state: ConfigState
    intake: Intake
    history: History
    observations: Observations
    recoveries: Recoveries
    log: InitVar[Log]
    #: See Report.
    store: tuple[str, str] = field(kw_only=True)
    #: Returns whether the process is ready, and the loop's worst lag of the last minute in seconds.
    health: Callable[[], tuple[bool, float]] = field(kw_only=True)
    streams: Streams = field(init=False)
    _next_gauges: float = 0.0

    def __post_init__(self, log: Log) -> None:
        self.streams = Streams(log, self.owner_of)

    def owner_of(self, target: str) -> str:
        """Return a target's owner, `""` if it is not in the configuration."""
        known = self.config_state.config.table.targets.get(target)
        return "" if known is None else known.owner

    def report(self) -> Report:
        """Return the state, with updated gauges. An update takes 0.1 s with 50,000 targets; slow
        ones are so rare that they take at most a tenth of the loop's time."""
        now = time.monotonic()
        if now >= self._next_gauges:
            began = time.thread_time()
            self.metrics.measure()
            took = time.thread_time() - began
            self._next_gauges = now + 10 * took if took > 0.01 else now
        (ready, lag), state = self.health(), replace(self.config_state)
        observed = self.observations.view(self.config_state.config.terms)
        tasks = len(asyncio.all_tasks())
        return Report(self.metrics, state, ready, self.store, lag, observed, tasks)

    def node(self) -> Node:
        """Return this process as one of the nodes that share a store."""
        identity, metrics, (ready, lag) = self.identity, self.metrics, self.health()
        metrics.measure()
        return Node(
            node_id=identity.node_id,
            host=identity.host,
            pid=os.getpid(),
            address=identity.address,
            version=__version__,
            config=self.config_state.config.hash,
            uptime=time.monotonic() - identity.started,
            ready=ready,
            figures={
                "events": sum(metrics.events.values()),
                "failed": sum(count for code, count in metrics.events.items() if code != SUCCESS),
                "in_flight": metrics.requests_in_flight,
                "unrecorded": sum(metrics.unrecorded.values()),
                "lag_seconds": round(lag, 4),
            },
            troubles=self._troubles(),
        )

    def _troubles(self) -> tuple[Trouble, ...]:
        metrics, config_state = self.metrics, self.config_state
        troubles = [
            Trouble(numbers.failure.at, f"{name}: {numbers.failure.reason}")
            for name, numbers in metrics.targets.items()
            if numbers.failure is not None
        ]
        if metrics.store_failed_at:
            troubles.append(Trouble(metrics.store_failed_at, f"store: {metrics.store_error}"))
        if not config_state.successful:
            count, file = len(config_state.problems), config_state.problems[0].file
            why = f"refused, {count} problem{'' if count == 1 else 's'} in {file}"
            troubles.append(Trouble(config_state.tried_at, f"configuration: {why}"))
        return tuple(sorted(troubles, key=lambda trouble: -trouble.at)[:MAX_TROUBLES])


class Heartbeat:
    """Writes every second the state of this process for those that share its store, and learns
    whether all run the same configuration. A failing store is reported elsewhere; here it only
    means that nothing is learned."""

    def __init__(
        self, nodes: Nodes, node: Callable[[], Node], metrics: Metrics, beat: float = BEAT
    ) -> None:
        self._nodes = nodes
        self._node = node
        self._metrics = metrics
        self._beat = beat
        #: Since when more than one configuration is in force, on time.monotonic.
        self._differ_since: float | None = None

    async def run(self) -> None:
        """Beat until cancelled. Then delete the row, once no beat can write it again."""
        beat = asyncio.create_task(self._send())
        try:
            while True:
                await asyncio.shield(beat)
                await asyncio.sleep(self._beat)
                beat = asyncio.create_task(self._send())
        finally:
            await asyncio.wait({beat}, timeout=LEAVE_TIMEOUT)
            beat.cancel()
            with contextlib.suppress(StoreFailed):
                await self._nodes.leave(self._node().node_id, LEAVE_TIMEOUT)

    async def _send(self) -> None:
        with contextlib.suppress(StoreFailed):
            configurations = await self._nodes.beat(self._node(), BEAT_TIMEOUT)
            now = time.monotonic()
            if len(configurations) <= 1:
                self._differ_since = None
            elif self._differ_since is None:
                self._differ_since = now
            self._metrics.nodes = sum(configurations.values())
            self._metrics.configurations_differ = now - (self._differ_since or now)
