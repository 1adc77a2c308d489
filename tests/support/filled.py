"""An SQLite store filled with many unsettled events at once."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from router.store.protocol import StoreLimits
from router.store.sqlite.file import connect
from router.store.sqlite.store import SqliteStore

#: No limits that a test can reach.
NO_LIMITS = StoreLimits(max_bytes=1 << 50)

_EVENTS = """
WITH RECURSIVE filled (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM filled WHERE n < :count)
INSERT INTO events (event_id, digest, stage, first_at, requests, replied_at, due_at, credit_until,
    ends_at, spent, size, request_id, traceparent,
    event_source, event_topic, event_type, event_status, event_key)
SELECT 'filled-' || n, randomblob(32), 'open', :now, 1, :now, :due_at, :due_at,
    :due_at, 0, 1200, 'filled', '', 'a', 'gs', 'cert', '1', 'a.gs.cert.1'
FROM filled
"""
_BODIES = "INSERT INTO bodies SELECT seq, zeroblob(150) FROM events"
_DELIVERIES = """
INSERT INTO deliveries (seq, target, state, reason, due_at, retries, changed_at)
SELECT seq, targets.value, CASE targets.key WHEN 0 THEN 'awaiting' ELSE 'queued' END,
    'code', :due_at, 0, :now
FROM events, json_each(:targets) AS targets
"""


def fill(
    path: Path,
    count: int,
    wait: float = 86400.0,
    targets: tuple[str, str] = ("strong", "aside"),
) -> None:
    """Make a file with `count` open events. The first target is awaited, the second is queued, and
    everything is due in `wait` seconds."""
    asyncio.run(_make(path))
    now = time.time()
    values = {"count": count, "now": now, "due_at": now + wait, "targets": json.dumps(targets)}
    connection = connect(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        for script in (_EVENTS, _BODIES, _DELIVERIES) if count else ():
            connection.execute(script, {name: values[name] for name in values if name in script})
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


async def _make(path: Path) -> None:
    await (await SqliteStore.open(path, NO_LIMITS)).close()
