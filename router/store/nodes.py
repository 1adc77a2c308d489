"""The processes that share a store, each as it writes itself there every second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

#: Seconds between two beats of a process.
BEAT = 1.0

#: Seconds without one after which a process counts as gone.
GONE = 10.0

#: Seconds after which the row of one that is gone goes too.
FORGOTTEN = 600.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong in a process, in the words of its log."""

    #: On the process's own clock.
    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Node:
    """One process of a router, as it says of itself."""

    #: Its own from start to end.
    node_id: str
    host: str
    pid: int
    #: Where it takes callbacks.
    address: str
    version: str
    #: The hash of the configuration in force.
    config: str
    #: Seconds since it started.
    uptime: float
    #: It takes callbacks: opened, and not stopping.
    ready: bool
    #: Numbers of its own, by name.
    figures: Mapping[str, float]
    #: The last ones, newest first.
    troubles: tuple[Trouble, ...] = ()
    #: Seconds since its last beat, when it was looked at.
    silent: float = 0.0

    @property
    def gone(self) -> bool:
        return self.silent > GONE


class Nodes(Protocol):
    """Where processes write themselves. Both methods raise StoreFailed, at the latest when the
    timeout has passed."""

    async def beat(self, node: Node, timeout: float) -> Mapping[str, int]:
        """Write the process's row, and delete those of processes that were silent for FORGOTTEN
        seconds. How many processes are not gone, by the hash of the configuration they run."""
        ...

    async def leave(self, node_id: str, timeout: float) -> None:
        """The process ends, and its row with it."""
        ...
