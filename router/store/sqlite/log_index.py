"""Whether anybody has committed to a file, without asking SQLite.

The processes that use a file share the index of its write-ahead log as memory: `-shm` beside it.
Each commit leaves another header there (https://sqlite.org/walformat.html): while that is as it
was, so is all that a look-up can find.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

#: The header and its copy, in bytes.
_HEADER = 96


class LogIndex:
    """The index of one file's log, read alone. It is open for as long as a connection of this
    process is: to close any descriptor of a file gives up all of the process's locks on it (POSIX),
    SQLite's too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: How many connections of this process are open.
        self.connections = 0
        self._descriptor: int | None = None
        self._memory: mmap.mmap | None = None

    def open(self) -> mmap.mmap:
        """Its header, as it is at any time. Raises OSError or ValueError where it can't be had."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        if self._memory is None:
            self._memory = mmap.mmap(self._descriptor, _HEADER, prot=mmap.PROT_READ)
        return self._memory

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
        if self._descriptor is not None:
            os.close(self._descriptor)


#: Its path, device and inode: another one may take its place.
_File = tuple[str, int, int]

#: Of each file that this process has connections to.
_indexes: dict[_File, LogIndex] = {}
_lock = threading.Lock()


class CountedConnection(sqlite3.Connection):
    """A connection that knows whether it is the last one of its process to its file."""

    _file: _File | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        path: str = self.execute("PRAGMA database_list").fetchone()[2]
        try:
            found = Path(path).stat()
        except OSError:
            return  # it has just been deleted
        with _lock:
            self._file = (path, found.st_dev, found.st_ino)
            self._index = _indexes.setdefault(self._file, LogIndex(Path(f"{path}-shm")))
            self._index.connections += 1

    def header(self) -> mmap.mmap | None:
        """The header of its log's index: other bytes as soon as somebody has committed. None where
        it can't be had. To be asked for once the connection has read something: from then on nobody
        else takes the index away. It is closed with the last connection."""
        with _lock:
            if self._file is None:
                return None
            try:
                return self._index.open()
            except (OSError, ValueError):
                return None

    def close(self) -> None:
        super().close()
        with _lock:
            file, self._file = self._file, None
            if file is None:
                return
            self._index.connections -= 1
            if not self._index.connections:
                del _indexes[file]
                self._index.close()
