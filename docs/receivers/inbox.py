"""Events that have come, a row each, and a thread that does the work for them afterwards.

For one process; several share DATABASE only where one of them alone works.
"""

import json
import os
import sqlite3
import threading
import time
from contextlib import closing

_come = threading.Event()


def work(event: dict, database: sqlite3.Connection) -> None:
    """Your own. What it writes by `database` is there with the row's mark, or not at all."""
    print(event["event_status"], event["changes"], flush=True)


def put(webhook_id: str, body: bytes) -> None:
    """Once it returns the event is durable. An id that is known already changes nothing."""
    with closing(_connect()) as database, database:
        database.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?, 0)", (webhook_id, body))
    _come.set()


def _connect() -> sqlite3.Connection:
    database = sqlite3.connect(os.environ.get("DATABASE", "inbox.db"), timeout=3)
    # Rows that are done and older than 31 days may go: nobody sends such an event again.
    database.execute(
        "CREATE TABLE IF NOT EXISTS inbox (webhook_id TEXT PRIMARY KEY, body BLOB, done INTEGER)"
    )
    return database


def _work_afterwards() -> None:
    while True:
        _come.clear()
        try:
            with closing(_connect()) as database:
                undone = "SELECT webhook_id, body FROM inbox WHERE NOT done"
                for webhook_id, body in database.execute(undone).fetchall():
                    with database:
                        work(json.loads(body), database)
                        done = "UPDATE inbox SET done = 1 WHERE webhook_id = ?"
                        database.execute(done, (webhook_id,))
        except Exception as error:
            print(f"not done, once more in 10 s: {error!r}", flush=True)
            time.sleep(10)
            continue
        _come.wait()


threading.Thread(target=_work_afterwards, daemon=True).start()
