"""The lines of the router's log, over all its lives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    at: float
    fields: dict[str, Any]

    @property
    def store_failed(self) -> bool:
        """The store was unreachable or too slow for it."""
        return (
            self.fields.get("cause") == "store"
            or "unrecorded" in self.fields
            or self.fields["happening"] == "store"
        )

    @property
    def timed_out(self) -> Iterator[tuple[str, str]]:
        """The attempts in this line that timed out, by event id and target."""
        event_id = self.fields.get("event_id", "")
        if self.fields.get("reason") == "timeout":
            yield event_id, self.fields["target"]
        if self.fields["happening"] == "event":
            for target, told in self.fields["targets"].items():
                if told.get("reason") == "timeout":
                    yield event_id, target


def lines(log: Path) -> Iterator[Line]:
    for line in log.read_text().splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue  # its process died in the middle of it
        yield Line(datetime.fromisoformat(fields["time"]).timestamp(), fields)
