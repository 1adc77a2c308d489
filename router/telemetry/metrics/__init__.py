"""Every number that the router counts: one `Metrics`.

The table is in table.py; counting is an addition to a plain number there. Prometheus comes in when
somebody asks, in exposition.py.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from router import __version__
from router.model.build import COMPILED
from router.telemetry.metrics.snapshot import Snapshot, values_of
from router.telemetry.metrics.table import REMOVED, OfProcess, OfTarget

#: What is said of those that no configuration has any more: what joins by it must find them.
_ABOUT_REMOVED: Final = {"owner": "", "role": "optional"}


@dataclass(slots=True)
class Metrics(OfProcess):
    """The numbers of one process, all there from the start at 0; `targets` has those of targets.

    Not locked: all of it is the event loop's.
    """

    #: By name; REMOVED stands for all that are in no configuration any more.
    targets: dict[str, OfTarget] = field(
        default_factory=lambda: {REMOVED: OfTarget(about=_ABOUT_REMOVED)}
    )
    #: Called before each snapshot, to set what is not counted but read: what is in flight, say.
    readings: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.last_event = time.time()
        self.build = {
            "version": __version__,
            "python": platform.python_version(),
            "compiled": "yes" if COMPILED else "no",
        }

    def adopt(self, names: Iterable[str]) -> None:
        """These are the targets now. One that stays keeps its numbers; the others' go."""
        names = (*names, REMOVED)
        self.targets = {name: self.targets.get(name) or OfTarget() for name in names}

    def of(self, target: str) -> OfTarget:
        """The numbers of a target; for one that is in no configuration, those of REMOVED."""
        return self.targets.get(target) or self.targets[REMOVED]

    def snapshot(self) -> Snapshot:
        """All numbers as they are now, as JSON can carry them."""
        for read in self.readings:
            read()
        targets = {name: values_of(numbers) for name, numbers in self.targets.items()}
        return Snapshot(process=values_of(self), targets=targets)
