"""The database file: owned by one process, made, brought up to date, checked cheaply, opened."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import sqlite3
import threading
from pathlib import Path

from router.model.errors import StartFailed, closed, may, why_not
from router.model.secret import Secret
from router.store.protocol import NO_DOOR, Door, StoreFailed
from router.store.sqlite.schema import APPLICATION_ID, FILE_VERSION, migration

#: How long a connection waits for another one's lock, in seconds: of this process, or an operator's
#: shell or backup. No other router has the file open.
BUSY_TIMEOUT = 2.0

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


class Known:
    """How many events the file has of each body, by the first three bytes of its digest.

    A digest that is not in it has no event, so a healthy event costs no query. One that is may have
    none: with a million events, 6 of 100 look-ups ask the file for nothing. The counts take up to
    16 MB, and as good as nothing as long as few events are open.
    """

    #: What a count that has reached it stays at.
    _MANY = 255

    def __init__(self) -> None:
        # Memory that the system gives by the page, once a count in it is not 0.
        self._counts = mmap.mmap(-1, 1 << 24)
        self._turn = threading.Lock()
        self._is_loaded = False

    def load(self, connection: sqlite3.Connection) -> None:
        """Add every event of the file, once. Events that are added meanwhile may count twice."""
        if self._is_loaded:
            return
        counts, many = self._counts, self._MANY
        found = connection.execute("SELECT digest FROM events")
        while digests := found.fetchmany(1000):
            with self._turn:
                for (digest,) in digests:
                    at = int.from_bytes(digest[:3], "big")
                    if counts[at] < many:
                        counts[at] += 1
        self._is_loaded = True

    def __contains__(self, digest: bytes) -> bool:
        return self._counts[int.from_bytes(digest[:3], "big")] > 0

    def add(self, digest: bytes) -> None:
        """An event is about to be added."""
        at = int.from_bytes(digest[:3], "big")
        with self._turn:
            if self._counts[at] < self._MANY:
                self._counts[at] += 1

    def remove(self, digest: bytes) -> None:
        """An event was deleted, or was not added."""
        at = int.from_bytes(digest[:3], "big")
        with self._turn:
            if 0 < self._counts[at] < self._MANY:
                self._counts[at] -= 1


def lock_of(path: Path) -> Path:
    """The file beside a store's that is locked by who owns it."""
    return path.with_name(f"{path.name}-lock")


class Owner:
    """The one process that has a file open, by a lock on a file beside it.

    All that opens the file in this process shares it. The kernel releases the lock when the
    process ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        """Raises StartFailed if another process has it."""
        # Not on the file itself: closing any descriptor of it would drop SQLite's own locks.
        lock = os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(lock, path)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        self._path = path
        self.users = 0
        self.known = Known()
        self.say(NO_DOOR)

    def say(self, door: Door) -> None:
        """Write down who has it, for whoever is refused. The file is its user's alone."""
        who = {"program": "ebaas-router", "pid": os.getpid()}
        said = json.dumps({**who, "ops": door.url, "key": door.key.reveal()})
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, said.encode(), 0)

    def release(self) -> None:
        with _turn:
            self.users -= 1
            if self.users == 0:
                del _owners[self._path]
                os.close(self._lock)


#: The files that this process owns.
_owners: dict[Path, Owner] = {}
_turn = threading.Lock()


def own(path: Path, door: Door = NO_DOOR) -> Owner:
    """Own a file, until it is released as often as it is owned. Its folder is made. Raises
    StartFailed if another process owns it."""
    real = path.resolve()
    with _turn:
        try:
            with contextlib.suppress(FileExistsError):
                real.parent.mkdir(mode=0o700)
            owner = _owners.get(real) or Owner(real)
            if door.url:
                owner.say(door)
        except StartFailed as error:
            raise _start_failed(path, str(error)) from None
        except OSError as error:
            raise _start_failed(path, _why_unowned(path, error)) from None
        _owners[real] = owner
        owner.users += 1
    return owner


def _why_unowned(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return _no_folder(path.parent)
        case errno.EROFS:
            return f"{_UNWRITABLE}: {closed(path.parent)}"
        case errno.ENOSPC:
            return _FULL
        case errno.EACCES if may(path, os.F_OK) and not may(path, os.R_OK | os.W_OK):
            return f"{_UNWRITABLE}: {closed(path)}"
        case errno.EACCES if may(path, os.F_OK) and not _is_open(path.parent):
            return _unmade(path.parent)
        case errno.EACCES if may(path, os.F_OK):
            return f"its lock can't be opened: {closed(lock_of(path))}"
        case _:
            return why_not(path.parent, error)


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartFailed(_in_use(os.pread(lock, 1000, 0))) from None
    if os.geteuid() == 0 and path.exists():
        # Otherwise a command that root runs would lock out the router's own user.
        found = path.stat()
        os.fchown(lock, found.st_uid, found.st_gid)


def door_of(path: Path) -> Door:
    """Return the door of the router that owns a file, as far as it is known to this user. It may
    have ended since."""
    try:
        said = json.loads(lock_of(path.resolve()).read_bytes())
        return Door(str(said["ops"]), Secret(str(said["key"])))
    except (OSError, ValueError, KeyError, TypeError):
        return NO_DOOR


def _in_use(said: bytes) -> str:
    """By what its owner says; it may be about to say it."""
    try:
        owner = json.loads(said)
        who, url = f"{owner['program']} (pid {owner['pid']}", owner["ops"]
    except ValueError:
        return "it is in use by another process"
    if url:
        return f"it is in use by {who}, ops port {url}): ask that router with --url {url}"
    return f"it is in use by {who}): stop it first"


def open_file(path: Path, door: Door = NO_DOOR) -> tuple[Owner, sqlite3.Connection]:
    """Own the file, make it, readable by its user alone, or bring it up to date; its first reader.
    Raises StartFailed, with one line, for a file that can't be used."""
    with contextlib.ExitStack() as undoing:
        owner = own(path, door)
        undoing.callback(owner.release)
        reader = _prepare(path)
        undoing.callback(reader.close)
        owner.known.load(reader)
        undoing.pop_all()
    return owner, reader


def _prepare(path: Path) -> sqlite3.Connection:
    try:
        _make(path)
        with contextlib.closing(connect(path)) as connection:
            _lay_out(connection)
            _migrate(path, connection)
            _check(path, connection)
            return open_reader(path)
    except FileNotFoundError:
        raise _start_failed(path, _no_folder(path.parent)) from None
    except OSError as error:
        raise _start_failed(path, why_not(path, error)) from None
    except sqlite3.Error as error:
        raise _start_failed(path, _why(error, path)) from None


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, for one thread at a time. Reading never waits for a lock."""
    connection = connect(path, any_thread=True)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA busy_timeout = 0")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_existing(
    path: Path, *, read_only: bool = False
) -> tuple[Owner | None, sqlite3.Connection]:
    """A connection for one thread at a time, and the file's owner unless it is read-only. Nothing
    is made or brought up to date. Raises StartFailed, with one line, for a file that is no store
    that can be used."""
    try:
        path.stat()
    except FileNotFoundError:
        raise _start_failed(path, "there is no such file") from None
    except OSError as error:
        raise _start_failed(path, why_not(path, error)) from None
    if not may(path, os.R_OK | os.W_OK):
        raise _start_failed(path, f"{_UNWRITABLE}: {closed(path)}")
    with contextlib.ExitStack() as undoing:
        owner = None if read_only else own(path)
        if owner is not None:
            undoing.callback(owner.release)
        try:
            connection = open_reader(path) if read_only else connect(path, any_thread=True)
            undoing.callback(connection.close)
            version = _version(path, connection)
        except sqlite3.Error as error:
            raise _start_failed(path, _why(error, path)) from None
        if version < FILE_VERSION:
            raise _start_failed(path, "it is empty or old; a start of the router makes it ready")
        undoing.pop_all()
    return owner, connection


def connect(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """A connection to an existing file, which waits for a lock up to BUSY_TIMEOUT."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT,
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


def _lay_out(connection: sqlite3.Connection) -> None:
    """How an empty file is laid out for good: pages can be given back one by one."""
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """In one transaction: a kill leaves the file as it was. A file that is up to date can be
    written to, at least."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(path, connection)
        for statement in migration(version) if version < FILE_VERSION else ():
            connection.execute(statement)
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
        if oldest:
            raise _start_failed(
                path, "its version is 1, which no release had: move it away, and start anew"
            )
        return 0
    version: int = connection.execute("SELECT version FROM version").fetchone()[0]
    return version


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
            return _unmade(path.parent)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return f"{_UNWRITABLE}: {closed(path if _is_open(path.parent) else path.parent)}"
        case sqlite3.SQLITE_IOERR:
            return "the disk does not answer rightly"
        case _:
            return "it can't be opened"


def _unmade(folder: Path) -> str:
    return f"no file can be made beside it: {closed(folder)}"


def _is_open(folder: Path) -> bool:
    return may(folder, os.W_OK | os.X_OK)


def _start_failed(path: Path, why: str) -> StartFailed:
    return StartFailed(f"can't use the store {path}: {why}")
