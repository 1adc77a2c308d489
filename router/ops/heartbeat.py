"""This process among those that share its store: every second it writes its state, and learns
whether all run the same configuration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_urlsafe

from router import __version__
from router.config.reload import ConfigState
from router.model.event import SUCCESS, new_id
from router.model.secret import Secret
from router.store.protocol import BEAT, Door, Node, Nodes, StoreFailed, Trouble
from router.telemetry.metrics import Metrics

#: How long a beat may take, in seconds.
BEAT_TIMEOUT = 5.0

#: How long a stop waits until the row is deleted, in seconds. A row that stays is shown as gone.
LEAVE_TIMEOUT = 1.0

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


class Heartbeat:
    """Beats for as long as it runs. A failing store is reported elsewhere; here it only means that
    nothing is learned."""

    def __init__(
        self, nodes: Nodes, describe: Callable[[], Node], metrics: Metrics, beat: float = BEAT
    ) -> None:
        self._nodes = nodes
        self._describe = describe
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
                await self._nodes.leave(self._describe().node_id, LEAVE_TIMEOUT)

    async def _send(self) -> None:
        with contextlib.suppress(StoreFailed):
            self._receive(await self._nodes.beat(self._describe(), BEAT_TIMEOUT))

    def _receive(self, configurations: Mapping[str, int]) -> None:
        now = time.monotonic()
        if len(configurations) <= 1:
            self._differ_since = None
        elif self._differ_since is None:
            self._differ_since = now
        self._metrics.nodes = sum(configurations.values())
        self._metrics.configurations_differ = now - (self._differ_since or now)


def described(
    identity: Identity, metrics: Metrics, config_state: ConfigState, *, ready: bool, lag: float
) -> Node:
    """Return the current state of this process; `lag` is the loop's worst of the last minute, in
    seconds."""
    return Node(
        node_id=identity.node_id,
        host=identity.host,
        pid=os.getpid(),
        address=identity.address,
        version=__version__,
        config=config_state.config.hash,
        uptime=time.monotonic() - identity.started,
        ready=ready,
        figures={
            "events": sum(metrics.events.values()),
            "failed": sum(count for code, count in metrics.events.items() if code != SUCCESS),
            "in_flight": metrics.requests_in_flight,
            "unrecorded": sum(metrics.unrecorded.values()),
            "lag_seconds": round(lag, 4),
        },
        troubles=_troubles(metrics, config_state),
    )


def _troubles(metrics: Metrics, config_state: ConfigState) -> tuple[Trouble, ...]:
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
        troubles.append(Trouble(config_state.tried, f"configuration: {why}"))
    return tuple(sorted(troubles, key=lambda each: -each.at)[:MAX_TROUBLES])
