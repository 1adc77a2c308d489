"""A table of received events, and a thread that processes them.

One process may do the work. Others that share DATABASE may only receive.
"""

import json
import os
import sqlite3
import threading
import time
from contextlib import closing

_arrived = threading.Event()


def work(event: dict, database: sqlite3.Connection) -> None:
    """Replace this. Writes to `database` are committed together with the row's mark."""
    print(event["event_status"], event["changes"], flush=True)


def put(webhook_id: str, body: bytes) -> None:
    """Store the event durably. A known id changes nothing."""
    with closing(_connect()) as database, database:
        database.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?, 0)", (webhook_id, body))
    _arrived.set()


def _connect() -> sqlite3.Connection:
    database = sqlite3.connect(os.environ.get("DATABASE", "inbox.db"), timeout=3)
    # Delete rows after 31 days: no event is sent again later than that.
    database.execute(
        "CREATE TABLE IF NOT EXISTS inbox (webhook_id TEXT PRIMARY KEY, body BLOB, done INTEGER)"
    )
    return database


def _work_afterwards() -> None:
    while True:
        _arrived.clear()
        try:
            with closing(_connect()) as database:
                undone = "SELECT webhook_id, body FROM inbox WHERE NOT done"
                for webhook_id, body in database.execute(undone).fetchall():
                    with database:
                        work(json.loads(body), database)
                        done = "UPDATE inbox SET done = 1 WHERE webhook_id = ?"
                        database.execute(done, (webhook_id,))
        except Exception as error:
            print(f"failed, next try in 10 s: {error!r}", flush=True)
            time.sleep(10)
            continue
        _arrived.wait()


threading.Thread(target=_work_afterwards, daemon=True).start()
