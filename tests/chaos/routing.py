"""routes.yaml as it is edited during a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import Any

from router.contract.schedule import Schedule
from tests.chaos.history import Table
from tests.chaos.plan import OPTIONAL, REQUIRED, TIMEOUTS, WANDERING, Times

#: How long an edit takes at most to be in force, with a SIGHUP and without, in seconds.
SIGNALLED, NOTICED = 2.0, 5.0

#: How it begins: the wandering targets on one side each.
FIRST = {"w0": "required", "w1": "optional"}

#: The sides of an edit, by those of a route.
_SIDES = {"required": ("required",), "optional": ("optional", "paused")}

#: The targets that the router itself spares at times.
_POLICIES: dict[str, Any] = {
    "w0": {"breaker": {"of_at_least": 5, "within": "2s", "pause": "500ms", "refusals": "count"}},
    "w1": {"rate": {"per_second": 20, "burst": 2}},
}


class Routing:
    """The file, and its last valid content."""

    def __init__(self, path: Path, urls: Mapping[str, str], times: Times) -> None:
        self.path = path
        self._times = times
        self._urls = urls
        self._right = ""
        #: Deliveries to some target are not sent as long as this is in force.
        self.keeps_some_waiting = False

    def write(self, sides: Mapping[str, str], takes: float) -> Table:
        self._right = json.dumps(self._document(sides))
        self._put(self._right)
        self.keeps_some_waiting = bool({*sides.values()} & {"gone", "paused"})
        required, optional = (
            frozenset({*always, *(w for w in WANDERING if sides[w] in of)})
            for always, of in ((REQUIRED, _SIDES["required"]), (OPTIONAL, _SIDES["optional"]))
        )
        now = time()
        return Table(required, optional, now, now + takes)

    def spoil(self) -> None:
        self._put(self._right.replace('"targets"', '"tragets"'))

    def mend(self) -> None:
        """Write the last valid content: no router starts with another."""
        self._put(self._right)

    def _put(self, content: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(content)
        new.replace(self.path)

    def _document(self, sides: Mapping[str, str]) -> dict[str, Any]:
        times = self._times
        there = [name for name in TIMEOUTS if sides.get(name) != "gone"]
        return {
            "version": 1,
            "ebaas": {
                **_schedule(times.ebaas),
                "reply_within": _text(times.reply_within),
                "grace": _text(times.grace),
            },
            "queue": _schedule(times.queue),
            "targets": {
                name: {
                    "url": self._urls[name],
                    "timeout": _text(times.timeout(name)),
                    "paused": sides.get(name) == "paused",
                    **_POLICIES.get(name, {}),
                }
                for name in there
            },
            "routes": [
                {"name": "all", "match": "*", "required": [*REQUIRED], "optional": [*OPTIONAL]},
                *(
                    {"name": f"{name} {side}", "match": "*", side: [name]}
                    for side, of in _SIDES.items()
                    for name in WANDERING
                    if sides[name] in of
                ),
            ],
        }


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return {"retries": schedule.retries, "waits": [_text(wait) for wait in schedule.waits]}


def _text(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
