"""The database file: owned by one process, made, upgraded, checked at low cost, opened."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import mmap
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from router.model.errors import StartFailed, may, why_closed, why_not
from router.model.secret import Secret
from router.store.protocol import NO_DOOR, Door, StoreFailed
from router.store.sqlite.schema import APPLICATION_ID, FILE_VERSION, migration

#: A connection waits so many seconds for a lock of another connection: of this process, or of an
#: operator's shell or backup.
BUSY_TIMEOUT = 2.0

#: A start checks all of a file up to this size, which takes 0.1 s, and a sample of a larger one.
_READ_THROUGH = 32 * 1024 * 1024

#: The size that the write-ahead log is cut back to, in bytes.
_LOG_LIMIT = 64 * 1024 * 1024

_UNWRITABLE = "it can't be written to"
_FULL = "the disk is full"

#: The word for an error in logs and metrics.
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
    """The number of events that the file has of each body, by the first three bytes of its digest.

    A body that is not in it has no event, so a healthy event costs no query. The reverse does not
    hold: with a million events, 6 of 100 look-ups query the file in vain. The counts take up to
    16 MB, and almost nothing as long as few events are open.
    """

    #: A count that has reached it is never changed again.
    _MANY = 255

    def __init__(self) -> None:
        # The system provides this memory page by page, once a count in it is not 0.
        self._counts = mmap.mmap(-1, 1 << 24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._lock = threading.Lock()
        self._is_loaded = False

    def load(self, connection: sqlite3.Connection) -> None:
        """Add all events of the file, once. Events that are added meanwhile may count twice."""
        if self._is_loaded:
            return
        rows = connection.execute("SELECT digest FROM events")
        while page := rows.fetchmany(1000):
            for (digest,) in page:
                self.add(digest)
        self._is_loaded = True

    def __contains__(self, digest: bytes) -> bool:
        return self._counts[int.from_bytes(digest[:3], "big")] > 0

    def remove(self, digest: bytes) -> None:
        """Count an event that was deleted, or was not added."""
        self.add(digest, -1)

    def add(self, digest: bytes, change: int = 1) -> None:
        """Count an event that is about to be added."""
        index = int.from_bytes(digest[:3], "big")
        with self._lock:
            if (count := self._counts[index]) < self._MANY:
                self._counts[index] = max(0, count + change)


def lock_of(path: Path) -> Path:
    """Return the file beside a store's file that its owner locks."""
    return path.with_name(f"{path.name}-lock")


#: The size of a lock file's text. One write always replaces all of it, so a reader never finds half
#: of it, and a full disk does not matter once the file is there.
_TEXT_SIZE = 2048


class Owner:
    """The one process that has a file open, by a lock on a file beside it.

    Everything that opens the file in this process shares it. The kernel releases the lock when the
    process ends, even by a kill. The lock file is never deleted, and its text may be stale.
    """

    def __init__(self, path: Path, door: Door) -> None:
        """Raises StartFailed if another process owns the file, or the lock file is not ours."""
        self._path = path
        self._lock = _locked(path, door)
        self.users = 0
        self.known = Known()

    def announce(self, door: Door) -> None:
        """Write down how to reach this process, for commands and for processes that are refused."""
        _write(self._lock, door)

    def is_sole(self) -> bool:
        """Return False if the lock file was deleted, so that another process may own the file."""
        return _is_at(self._lock, lock_of(self._path))

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
    """Own a file, until it is released as often as it is owned. Make its folder. Raises StartFailed
    if another process owns it."""
    real = path.resolve()
    with _turn, _explaining(path):
        with contextlib.suppress(FileExistsError):
            real.parent.mkdir(mode=0o700)
        if (owner := _owners.get(real)) is None:
            owner = _owners[real] = Owner(real, door)
        elif door.url:
            owner.announce(door)
        owner.users += 1
    return owner


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Translate errors to StartFailed, with the file's name."""
    try:
        yield
    except StartFailed as error:
        raise StartFailed(f"can't use the store {path}: {error}") from None
    except sqlite3.Error as error:
        raise StartFailed(f"can't use the store {path}: {_why(error, path)}") from None
    except OSError as error:
        raise StartFailed(f"can't use the store {path}: {_why_closed(path, error)}") from None


def _why_closed(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT if path.parent.is_dir():
            return f"no file can be made in {str(path.parent)!r}"
        case errno.ENOENT:
            above = str(path.parent.parent)
            return f"there is no folder {above!r} to make {path.parent.name!r} in"
        case errno.EROFS:
            return f"{_UNWRITABLE}: {why_closed(path.parent)}"
        case errno.ENOSPC:
            return _FULL
        case errno.EACCES if may(path, os.F_OK) and not may(path, os.R_OK | os.W_OK):
            return f"{_UNWRITABLE}: {why_closed(path)}"
        case errno.EACCES if may(path, os.F_OK) and not _is_open(path.parent):
            return _unmade(path.parent)
        case errno.EACCES if may(path, os.F_OK):
            return f"its lock can't be opened: {why_closed(lock_of(path))}"
        case _:
            return why_not(path.parent, error)


def _locked(path: Path, door: Door) -> int:
    """Return the descriptor of a file's lock. Raises StartFailed and OSError."""
    # Not on the file itself: closing any descriptor of it would drop SQLite's own locks.
    lock = _open_lock(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(lock, lock_of(path)):
            raise StartFailed(f"its lock {str(lock_of(path))!r} was just deleted: try again")
        _adopt(lock, path)
        _write(lock, door)
    except BlockingIOError:
        text = os.pread(lock, _TEXT_SIZE, 0)
        os.close(lock)
        raise StartFailed(_in_use(text)) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _open_lock(path: Path, flags: int) -> int:
    """Open a lock file. Raises OSError, and StartFailed for a file that is not ours: a user who may
    write to the folder could have us overwrite another file, or could read the key from his own."""
    lock_path = lock_of(path)
    try:
        # A pipe would block.
        lock = os.open(lock_path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StartFailed(_no_lock(lock_path, "is not a regular file")) from None
        raise
    about = os.fstat(lock)
    owners = {0, os.geteuid()}
    with contextlib.suppress(FileNotFoundError):
        owners.add(path.stat().st_uid)
    why = ""
    if not stat.S_ISREG(about.st_mode):
        why = "is not a regular file"
    elif about.st_uid not in owners:
        why = f"belongs to another user ({about.st_uid})"
    if why:
        os.close(lock)
        raise StartFailed(_no_lock(lock_path, why))
    return lock


def _no_lock(lock_path: Path, why: str) -> str:
    return f"its lock {str(lock_path)!r} {why}: delete it"


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _adopt(lock: int, path: Path) -> None:
    """Let nobody but the store's user read the key; a command that root runs must not lock the
    router's own user out."""
    if os.geteuid() in (0, os.fstat(lock).st_uid):
        os.fchmod(lock, 0o600)
    if os.geteuid() == 0 and path.exists():
        owner = path.stat()
        os.fchown(lock, owner.st_uid, owner.st_gid)


def _write(lock: int, door: Door) -> None:
    about = {"program": "ebaas-router", "pid": os.getpid(), "ops": door.url}
    text = json.dumps({**about, "key": door.key.reveal()}).encode()
    if os.pwrite(lock, text.ljust(_TEXT_SIZE), 0) < _TEXT_SIZE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def door_of(path: Path) -> Door:
    """Return the door of the router that owns a file, as far as this user may know it. The router
    may have ended since."""
    try:
        lock = _open_lock(path.resolve(), os.O_RDONLY)
        try:
            about = json.loads(os.pread(lock, _TEXT_SIZE, 0))
        finally:
            os.close(lock)
        return Door(str(about["ops"]), Secret(str(about["key"])))
    except (OSError, StartFailed, ValueError, KeyError, TypeError):
        return NO_DOOR


def _in_use(text: bytes) -> str:
    """Name the owner, which may not have written its text yet."""
    try:
        owner = json.loads(text)
        who, url = f"{owner['program']} (pid {owner['pid']}", owner["ops"]
    except (ValueError, KeyError, TypeError):
        return "it is in use by another process"
    if url:
        return f"it is in use by {who}, ops port {url}): ask that router with --url {url}"
    return f"it is in use by {who}): stop it first"


Opened = TypeVar("Opened", bound="tuple[Owner | None, sqlite3.Connection]")


async def open_in_thread(open_: Callable[[], Opened]) -> Opened:
    """Call `open_file` or `open_existing` in a thread. If the caller is cancelled meanwhile, the
    result is closed."""
    # A future and no task: the end of a loop would cancel a task.
    opening = asyncio.get_running_loop().run_in_executor(None, open_)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: asyncio.Future[Opened]) -> None:
    if opening.cancelled() or opening.exception() is not None:
        return
    owner, connection = opening.result()
    connection.close()
    if owner is not None:
        owner.release()


def open_file(path: Path, door: Door = NO_DOOR) -> tuple[Owner, sqlite3.Connection]:
    """Own the file, make or upgrade it, and open its first reader. Only its user may read it.
    Raises StartFailed, with one line, for a file that cannot be used."""
    with contextlib.ExitStack() as undoing:
        owner = own(path, door)
        undoing.callback(owner.release)
        with _explaining(path):
            _make(path)
            with contextlib.closing(connect(path)) as connection:
                _migrate(connection)
                _check(path, connection)
                reader = open_reader(path)
        undoing.callback(reader.close)
        owner.known.load(reader)
        undoing.pop_all()
    return owner, reader


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that only reads, for one thread at a time. It never waits for a lock."""
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
    """Open a connection for one thread at a time, and own the file unless it is read-only. Nothing
    is made or upgraded. Raises StartFailed, with one line, for a file that cannot be used."""
    with contextlib.ExitStack() as undoing:
        with _explaining(path):
            if not path.exists():
                raise StartFailed("there is no such file")
            _require_rights(path)
        owner = None if read_only else own(path)
        if owner is not None:
            undoing.callback(owner.release)
        with _explaining(path):
            connection = open_reader(path) if read_only else connect(path, any_thread=True)
            undoing.callback(connection.close)
            if _version(connection) < FILE_VERSION:
                raise StartFailed("it is empty or old; a start of the router makes it ready")
        undoing.pop_all()
    return owner, connection


def _require_rights(path: Path) -> None:
    if not may(path, os.R_OK | os.W_OK):
        raise StartFailed(f"{_UNWRITABLE}: {why_closed(path)}")


def connect(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """Open a connection to an existing file, which waits up to BUSY_TIMEOUT for a lock."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=not any_thread,
    )
    try:
        # NORMAL would lose commits in a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        # Some builds overwrite deleted rows with zeros, which needs room in the log.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def translated(error: Exception) -> Exception:
    """Translate an error of SQLite or of the file system; any other is a bug, and stays."""
    if isinstance(error, OSError):  # the folder was deleted, or its file system does not answer
        return StoreFailed("unreachable")
    if isinstance(error, sqlite3.Error):
        return StoreFailed(_WORDS.get(_code(error), "sqlite"))
    return error


def needs_reopening(error: Exception) -> bool:
    """Return whether a new connection may help."""
    return _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)


def _code(error: Exception) -> int:
    """Return the primary code, which is the low byte of an extended one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make(path: Path) -> None:
    # An existing file is not opened here: closing it would release the locks that SQLite may hold
    # on it elsewhere in this process.
    if path.is_dir():
        raise StartFailed("it is a folder")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        _require_rights(path)


#: The process that leased them has ended, and EBaaS's next request must not wait for it. Queued
#: deliveries keep their leases: their targets may still be at work on them. The condition on both
#: states is that of the index `deliveries_waiting`, which SQLite uses only if it is repeated.
_NO_LEASES = """
UPDATE deliveries SET lease = '', recover_at = 0
WHERE state IN ('awaiting', 'queued') AND recover_at > 0 AND lease <> '' AND state = 'awaiting'
"""


def _migrate(connection: sqlite3.Connection) -> None:
    """Make or upgrade the tables in one transaction: a kill leaves the file as it was. The
    transaction also shows that the file can be written to."""
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        # The layout of the file, for good: free pages can be returned one by one.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        for statement in migration(version) if version < FILE_VERSION else ():
            connection.execute(statement)
        connection.execute(_NO_LEASES)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    oldest: int = connection.execute("PRAGMA user_version").fetchone()[0]
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and (tables or oldest):
        raise StartFailed("it is another program's database")
    if oldest > FILE_VERSION:
        raise StartFailed(
            f"its version is {oldest}, this program knows {FILE_VERSION}; a newer one wrote it: "
            "start that, or put back the copy that was made before it",
        )
    if not tables:
        return 0
    version: int = connection.execute("SELECT version FROM version").fetchone()[0]
    return version


def _check(path: Path, connection: sqlite3.Connection) -> None:
    if path.stat().st_size <= _READ_THROUGH:
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise StartFailed("it is damaged")
        return
    for table in ("events", "deliveries"):
        for order in ("ASC", "DESC"):
            connection.execute(f"SELECT * FROM {table} ORDER BY seq {order} LIMIT 100").fetchall()  # noqa: S608
    connection.execute("SELECT * FROM usage").fetchall()


def _why(error: sqlite3.Error, path: Path) -> str:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
        # A full disk first lacks room for the index of the log.
        return _FULL
    match _code(error):
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return "it is damaged, or no database"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another process holds it locked"
        case sqlite3.SQLITE_FULL:
            return _FULL
        case sqlite3.SQLITE_CANTOPEN if not _is_open(path.parent):
            # The log and its index are files beside it.
            return _unmade(path.parent)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return f"{_UNWRITABLE}: {why_closed(path if _is_open(path.parent) else path.parent)}"
        case sqlite3.SQLITE_IOERR:
            return "the disk reports errors"
        case _:
            return "it can't be opened"


def _unmade(folder: Path) -> str:
    return f"no file can be made beside it: {why_closed(folder)}"


def _is_open(folder: Path) -> bool:
    return may(folder, os.W_OK | os.X_OK)
