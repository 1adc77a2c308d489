"""Reading an archive, and making one."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from router.archive import refused
from router.archive.reading import Sources
from router.archive.segments import SegmentStore, time_of
from router.telemetry.log.lines import Lines, RawLine
from tests.support.house import event

_LINES = Lines("json")

ACKNOWLEDGED = {"as": "required", "reason": "acknowledged", "ms": 1.5, "status": 200}
REFUSED = {**ACKNOWLEDGED, "reason": "code", "code": "700", "msg": "库存不足"}


def between(folder: Path, since: float, until: float) -> list[dict[str, Any]]:
    return [*map(json.loads, Sources(folder).lines(since=since, until=until))]


def archived(folder: Path, happening: str = "event") -> list[dict[str, Any]]:
    """Return the lines of one kind, the oldest first; all lines must be readable."""
    sources = Sources(folder)
    lines = [json.loads(line) for line in sources.lines(oldest_first=True)]
    assert not sources.damage
    return [line for line in lines if line["happening"] == happening]


def event_line(event_id: str, ago: float = 60.0, body: bytes | None = None, **fields: Any) -> bytes:
    """Return the line of an event handled `ago` seconds ago, whose id is in its `changes`."""
    sent = event(changes=[event_id]) if body is None else body
    usual = {
        "code": "000",
        "ms": 2.0,
        "request_id": f"request-of-{event_id}",
        "event_id": event_id,
        "request": 1,
        "of": 21,
        "targets": {"ledger": ACKNOWLEDGED},
        "routes": ["all"],
        "event_key": "a.gs.cert.1",
        "bytes": len(sent),
        "body": hashlib.sha256(sent).hexdigest()[:12],
        "payload": sent.decode(),
    }
    fields = {name: value for name, value in {**usual, **fields}.items() if value is not ...}
    return line("event", ago, **fields)


def line(happening: str, ago: float = 60.0, **fields: Any) -> bytes:
    """Return a line of any length."""
    members = {"time": _LINES.stamp(time.time() - ago), "level": "info", "happening": happening}
    return json.dumps({**members, **fields}, separators=(",", ":")).encode() + b"\n"


def refused_line(body: bytes, ago: float, code: str = "500") -> bytes:
    raw = RawLine(time.time() - ago, "warning", "unmatched", {"code": code, "request_id": "r"})
    return refused.refused_line(raw, body, bodies=True)


def keep(folder: Path, *lines: bytes, part: str = "") -> Path:
    """Add a segment with these lines, each written at its own time."""
    clock = [time.time()]
    shelf = SegmentStore(folder, 1 << 30, 30 * 86400.0, lambda: clock[0], part)
    for each in lines:
        with suppress(ValueError):
            clock[0] = datetime.fromisoformat(time_of(each).decode()).timestamp()
        shelf.append([each])
    shelf.close()
    return folder
