"""routes.yaml as it is edited during a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import Any

from router.contract.schedule import Schedule
from tests.chaos.history import Table
from tests.chaos.plan import (
    EBAAS,
    GRACE,
    OPTIONAL,
    QUEUE,
    REPLY_WITHIN,
    REQUIRED,
    TIMEOUTS,
    WANDERING,
    Edit,
)

#: How long an edit takes at most to be in force, with a SIGHUP and without, in seconds.
SIGNALLED, NOTICED = 2.0, 5.0

#: How it begins: the wandering targets on one side each.
FIRST = {"w0": "required", "w1": "optional"}


class Routing:
    """The file, and its last valid content."""

    def __init__(self, path: Path, urls: Mapping[str, str]) -> None:
        self.path = path
        self._urls = urls
        self._right = ""

    def write(self, sides: Mapping[str, str], takes: float) -> Table:
        """Write a valid one, which is in force after `takes` seconds at the latest."""
        self._right = json.dumps(self._document(sides))
        self._put(self._right)
        required, optional = (
            frozenset({*always, *(w for w in WANDERING if sides[w] == side)})
            for always, side in ((REQUIRED, "required"), (OPTIONAL, "optional"))
        )
        now = time()
        return Table(required, optional, now, now + takes)

    def spoil(self) -> None:
        """Write a broken one, which no router accepts."""
        self._put(self._right.replace('"targets"', '"tragets"'))

    def mend(self) -> None:
        """Write the last valid content: no router starts with another."""
        self._put(self._right)

    def _put(self, content: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(content)
        new.replace(self.path)

    def _document(self, sides: Mapping[str, str]) -> dict[str, Any]:
        there = [name for name in TIMEOUTS if sides.get(name) != "gone"]
        return {
            "version": 1,
            "ebaas": {
                **_schedule(EBAAS),
                "reply_within": _text(REPLY_WITHIN),
                "grace": _text(GRACE),
            },
            "queue": _schedule(QUEUE),
            "targets": {
                name: {"url": self._urls[name], "timeout": _text(TIMEOUTS[name])} for name in there
            },
            "routes": [
                {"name": "all", "match": "*", "required": [*REQUIRED], "optional": [*OPTIONAL]},
                *(
                    {"name": f"{name} {side}", "match": "*", side: [name]}
                    for name, side in sides.items()
                    if side in ("required", "optional")
                ),
            ],
        }


def edited(routing: Routing, edit: Edit) -> Table | None:
    """Make an edit; return None if it changes nothing."""
    if edit.broken:
        routing.spoil()
        return None
    return routing.write(edit.sides, SIGNALLED if edit.signalled else NOTICED)


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return {"retries": schedule.retries, "waits": [_text(wait) for wait in schedule.waits]}


def _text(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
