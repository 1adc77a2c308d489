"""The rows of any store, read beside its writer by the same SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.support.command import PATIENCE

if TYPE_CHECKING:
    from tests.support.postgres import Database


#: A file of SQLite, or a database.
Store: TypeAlias = "Path | Database"


def option(store: Store) -> str:
    return str(store) if isinstance(store, Path) else store.dsn


def query(store: Store, sql: str) -> Sequence[tuple[Any, ...]]:
    """Return all rows. `letters` has the bodies of events, and `encode` makes text of bytes. Values
    of PostgreSQL are texts."""
    if not isinstance(store, Path):
        return store.rows(sql)
    connection = sqlite3.connect(f"{store.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE)
    with closing(connection):
        connection.create_function("encode", 2, lambda content, _: content.hex())
        connection.execute("CREATE TEMP VIEW letters AS SELECT * FROM bodies")
        return connection.execute(sql).fetchall()
