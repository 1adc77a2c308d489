"""Whether anybody has committed to a file, without asking SQLite.

The processes that use a file share the index of its write-ahead log as memory: `-shm` beside it.
Each commit leaves another header there (https://sqlite.org/walformat.html): while that is as it
was, so is all that a look-up can find. It is read as a file: on Linux and macOS that is the same.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

#: With so many bytes an index begins: its header and a copy of it. They are others as soon as
#: somebody has committed.
HEADER = 96

#: A device and an inode: a file, whatever it is called.
_Inode = tuple[int, int]


class CountedConnection(sqlite3.Connection):
    """A connection that knows whether it is the last one of its process to its file.

    To close any descriptor of a file gives up all locks that the process has on it (POSIX),
    SQLite's too. So a descriptor of an index stays open until nobody in this process uses the file.
    """

    _file: _Inode | None = None

    def count(self, path: Path) -> None:
        """It is one of those to that file, as long as it is open. Before it reads anything. Raises
        OSError."""
        self._path = path.absolute()
        self._file = _inode(path.stat())
        with _lock:
            _files.setdefault(self._file, _File()).connections += 1

    def index(self) -> int:
        """A descriptor of the index of its log. Not before the connection has read something, for
        then nobody else takes the index away. Raises OSError where it can't be had."""
        if self._file is None or _inode(self._path.stat()) != self._file:
            raise FileNotFoundError
        with _lock:
            return _files[self._file].index(Path(f"{self._path.resolve()}-shm"))

    def close(self) -> None:
        super().close()
        with _lock:
            file, self._file = self._file, None
            if file is None:
                return
            _files[file].connections -= 1
            if not _files[file].connections:
                _files.pop(file).close()


class _File:
    """A file that this process has connections to."""

    def __init__(self) -> None:
        self.connections = 0
        #: Of the indexes of its log that this process has used, the one in use among them.
        self._descriptors: dict[_Inode, int] = {}

    def index(self, path: Path) -> int:
        """Raises OSError, also where SQLite uses another one: it was deleted, or its file moved."""
        wanted = _inode(path.stat())
        if wanted not in self._used():
            raise FileNotFoundError
        if wanted not in self._descriptors:
            self._descriptors[wanted] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptors[wanted]

    def _used(self) -> set[_Inode]:
        """What this process has open, but for what is open here."""
        used = set()
        for number in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 - of numbers
            if number not in self._descriptors.values():
                try:
                    used.add(_inode(os.fstat(number)))
                except OSError:
                    continue  # closed meanwhile, as the one for the list is
        return used

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)


#: Guards what follows, and all that is in there.
_lock = threading.Lock()
_files: dict[_Inode, _File] = {}


def _inode(found: os.stat_result) -> _Inode:
    return found.st_dev, found.st_ino
