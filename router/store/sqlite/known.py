"""Which bodies a file can hold, so that a look-up of another one does not have to look into it."""

from __future__ import annotations

import os
import sqlite3
from typing import Final, cast

from router.store.sqlite.log_index import HEADER, CountedConnection

_FROM: Final = "SELECT seq, digest FROM events WHERE seq >= ? ORDER BY seq LIMIT ?"

#: How many digests are read at a time: 0.2 ms.
_STEP: Final = 200

#: How many are known at most: 3 MB.
MOST_KNOWN: Final = 20_000


class KnownDigests:
    """The digests of a file's events; those of some that were deleted since may be among them.

    Hardly any callback is of an event that is there, and to hear so from SQLite takes two locks and
    its cold code: a tenth of what an event costs. What goes wrong here is no error: then SQLite is
    asked.
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        #: The last one that is known, with its seq: all before it are known too.
        self._last: tuple[int, bytes] = (0, b"")
        #: A descriptor of the log's index; None before it is looked for, -1 where it can't be had.
        self._index: int | None = None
        #: What the index began with when all were known; empty where some may not be.
        self._as_of = b""

    def lacks(self, digest: bytes, cursor: sqlite3.Cursor) -> bool:
        """Whether the file surely has no event of that body, of whichever process. False says
        nothing."""
        if self._index == -1:
            return False
        try:
            if self._index is None:
                self._catch_up(cursor)
                self._index = cast("CountedConnection", cursor.connection).index()
            header = os.pread(self._index, HEADER, 0)
            if len(header) < HEADER:
                return False
            if header != self._as_of:
                # Read before the rows: who commits in between leaves another one.
                self._as_of = header if self._catch_up(cursor) else b""
        except (sqlite3.Error, OSError, MemoryError):
            # A set that has failed to grow is of no use: CPython may look through it without end.
            self._index, self._digests = -1, set()
            return False
        return header == self._as_of and digest not in self._digests

    def thin(self, events: int) -> None:
        """Begin anew where too many are known of what has that many events now."""
        if len(self._digests) > MOST_KNOWN and events < MOST_KNOWN / 2:
            self._forget()

    def _forget(self) -> None:
        self._last, self._as_of = (0, b""), b""
        self._digests.clear()

    def _catch_up(self, cursor: sqlite3.Cursor) -> bool:
        """Get to know what was added; False where there may be more."""
        if len(self._digests) > MOST_KNOWN:
            return False
        found = cursor.execute(_FROM, (self._last[0], _STEP)).fetchall()
        if self._last[0] and not (found and found[0] == self._last):
            # It was deleted; or somebody has put another file's content in its place.
            self._forget()
            return False
        if found:
            self._digests.update([digest for _, digest in found])
            self._last = found[-1]
        return len(found) < _STEP
