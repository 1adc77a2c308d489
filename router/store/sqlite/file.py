"""The database file: made, brought up to date, checked cheaply, and opened."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from router.model.errors import StartFailed, closed, may, why_not
from router.store.promises import StoreFailed
from router.store.sqlite.schema import APPLICATION_ID, FILE_VERSION, MIGRATIONS, OLDEST_PROGRAM

#: How long the writer waits for another process's commit, in seconds.
BUSY_TIMEOUT = 2.0

#: The same for a process that waits until another has brought the file up to date.
UPGRADE_TIMEOUT = 60.0

#: The same for a person's commands, which can wait.
COMMAND_BUSY_TIMEOUT = 5.0

#: Files up to this size are read through at the start: 0.1 s. In larger ones a sample is.
_READ_THROUGH = 32 * 1024 * 1024

#: What the write-ahead log is cut back to, in bytes.
_LOG_LIMIT = 64 * 1024 * 1024

_UNWRITABLE = "it can't be written to"
_FULL = "the disk is full"

#: What went wrong, as one word for logs and metrics.
_WORDS = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_IOERR: "io",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_CANTOPEN: "unreachable",
    sqlite3.SQLITE_PERM: "unreachable",
}


def prepare(path: Path) -> sqlite3.Connection:
    """Make the file, readable by its owner alone, or bring it up to date; its first reader.

    The reader is opened while the file is known to be open: whoever closes a file as the last one
    locks it, and a reader does not wait. Raises StartFailed with one line where it can't be used.
    """
    try:
        _make(path)
        connection = connect(path)
    except FileNotFoundError:
        raise _start_failed(path, _no_folder(path.parent)) from None
    except OSError as error:
        raise _start_failed(path, why_not(path, error)) from None
    except sqlite3.Error as error:
        raise _start_failed(path, _why(error, path)) from None
    try:
        _insist(lambda: _lay_out(connection))
        _migrate(path, connection)
        _check(path, connection)
        return open_reader(path, BUSY_TIMEOUT)
    except sqlite3.Error as error:
        raise _start_failed(path, _why(error, path)) from None
    finally:
        connection.close()


def open_reader(path: Path, patience: float = 0.0) -> sqlite3.Connection:
    """A connection that only reads, for one thread at a time. Opening it waits for a lock up to
    `patience` seconds; reading never waits."""
    connection = connect(path, patience, any_thread=True)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA busy_timeout = 0")
    return connection


def open_existing(path: Path) -> sqlite3.Connection:
    """A connection beside the router's, for one thread at a time. Nothing is made or brought up to
    date. Raises StartFailed with one line where the file is no store that can be used."""
    try:
        path.stat()
    except FileNotFoundError:
        raise _start_failed(path, "there is no such file") from None
    except OSError as error:
        raise _start_failed(path, why_not(path, error)) from None
    if not may(path, os.R_OK | os.W_OK):
        raise _start_failed(path, f"{_UNWRITABLE}: {closed(path)}")
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, COMMAND_BUSY_TIMEOUT, any_thread=True)
        if _version(path, connection) < FILE_VERSION:
            raise _start_failed(path, "it is empty or old; a start of the router makes it ready")
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _start_failed(path, _why(error, path)) from None
        raise
    return connection


def connect(
    path: Path, patience: float = BUSY_TIMEOUT, *, any_thread: bool = False
) -> sqlite3.Connection:
    """A connection to an existing file, which waits for a lock up to `patience` seconds."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=not any_thread,
    )
    try:
        # NORMAL loses commits at a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        # Some builds write zeros over all that is deleted, which needs room in the log.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def translated(error: sqlite3.Error) -> StoreFailed:
    """SQLite's own errors end here."""
    return StoreFailed(_WORDS.get(_code(error), "sqlite"))


def needs_reopening(error: sqlite3.Error) -> bool:
    """Whether the connection may be stuck with the trouble; another may be free of it."""
    return _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)


def _code(error: sqlite3.Error) -> int:
    """The primary code: the extended ones have it in their low byte."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make(path: Path) -> None:
    # An existing file is not opened here: closing it would give up the locks that SQLite may hold
    # on it elsewhere in this process.
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    if path.is_dir():
        raise _start_failed(path, "it is a folder")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not may(path, os.R_OK | os.W_OK):
            raise _start_failed(path, f"{_UNWRITABLE}: {closed(path)}") from None


def _no_folder(folder: Path) -> str:
    if folder.is_dir():
        return f"no file can be made in {str(folder)!r}"
    return f"there is no folder {str(folder.parent)!r} to make {folder.name!r} in"


def _insist(step: Callable[[], None]) -> None:
    """Take a step that SQLite does not wait for by itself, until it may or BUSY_TIMEOUT is over."""
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            return step()
        except sqlite3.Error as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _lay_out(connection: sqlite3.Connection) -> None:
    """How an empty file is laid out for good: pages can be given back one by one."""
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Under the write lock, so that of several processes one does it and the others see it done."""
    if _version(path, connection) < FILE_VERSION:
        connection.execute(f"PRAGMA busy_timeout = {UPGRADE_TIMEOUT * 1000:.0f}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(path, connection)
        for script in MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        if version < FILE_VERSION:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {OLDEST_PROGRAM}")
            connection.execute("DELETE FROM version")
            connection.execute("INSERT INTO version VALUES (?)", (FILE_VERSION,))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(path: Path, connection: sqlite3.Connection) -> int:
    oldest: int = connection.execute("PRAGMA user_version").fetchone()[0]
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and (tables or oldest):
        raise _start_failed(path, "it is another program's database")
    if oldest > FILE_VERSION:
        raise _start_failed(
            path,
            f"its version is {oldest}, this program knows {FILE_VERSION}; a newer one wrote it: "
            "start that, or put back the copy that was made before it",
        )
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'version'").fetchone():
        return oldest  # of the first, or empty
    version: int = connection.execute("SELECT version FROM version").fetchone()[0]
    return version


def _statements(script: str) -> list[str]:
    """sqlite3's own executescript would commit in between."""
    statements: list[str] = []
    pending = ""
    for line in script.strip().splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


def _check(path: Path, connection: sqlite3.Connection) -> None:
    if path.stat().st_size <= _READ_THROUGH:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise _start_failed(path, "it is damaged")
        return
    for table in ("events", "deliveries"):
        for order in ("ASC", "DESC"):
            connection.execute(f"SELECT * FROM {table} ORDER BY seq {order} LIMIT 100").fetchall()  # noqa: S608
    connection.execute("SELECT * FROM usage").fetchall()


def _why(error: sqlite3.Error, path: Path) -> str:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
        # The first thing that a full disk has no room for.
        return _FULL
    match _code(error):
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return "it is damaged, or no database"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another process holds it locked"
        case sqlite3.SQLITE_FULL:
            return _FULL
        case sqlite3.SQLITE_CANTOPEN if not _is_open(path.parent):
            # Its log and the log's index are files beside it.
            return f"no file can be made beside it: {closed(path.parent)}"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return f"{_UNWRITABLE}: {closed(path if _is_open(path.parent) else path.parent)}"
        case sqlite3.SQLITE_IOERR:
            return "the disk does not answer rightly"
        case _:
            return "it can't be opened"


def _is_open(folder: Path) -> bool:
    return may(folder, os.W_OK | os.X_OK)


def _start_failed(path: Path, why: str) -> StartFailed:
    return StartFailed(f"can't use the store {path}: {why}")
