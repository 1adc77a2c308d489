"""Which bodies a file can hold, so that a look-up of another one does not have to look into it."""

from __future__ import annotations

import os
import sqlite3
from typing import Final, cast

from router.store.sqlite.log_index import HEADER, CountedConnection

_FROM: Final = "SELECT seq, digest FROM events WHERE seq >= ? ORDER BY seq LIMIT ?"

#: The highest seq that there ever was.
_EVER: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"

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
        #: The seq and the digest up to which all are known.
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
            if header != self._as_of:
                # Read before the rows: who commits in between leaves another one.
                self._as_of = header if self._catch_up(cursor) else b""
        except (sqlite3.Error, OSError):
            self._index = -1
            return False
        return header == self._as_of and digest not in self._digests

    def thin(self, events: int) -> None:
        """Begin anew where too many are known of what has that many events now."""
        if len(self._digests) > MOST_KNOWN and events < MOST_KNOWN / 2:
            self._forget()

    def _forget(self) -> None:
        self._digests.clear()
        self._last, self._as_of = (0, b""), b""

    def _catch_up(self, cursor: sqlite3.Cursor) -> bool:
        """Get to know what was added; False where there may be more."""
        if len(self._digests) > MOST_KNOWN:
            return False
        found = cursor.execute(_FROM, (self._last[0], _STEP)).fetchall()
        if not (found and found[0] == self._last) and not self._goes_on(found, cursor):
            self._forget()
            return False
        if found:
            self._digests.update([digest for _, digest in found])
            self._last = found[-1]
        return len(found) < _STEP

    def _goes_on(self, found: list[tuple[int, bytes]], cursor: sqlite3.Cursor) -> bool:
        """Whether what is there may follow what is known, of which the last is not there any more.
        It does not where somebody has put an older file in its place."""
        seq, _ = self._last
        ever = cursor.execute(_EVER).fetchone()
        return not (found and found[0][0] == seq) and (0 if ever is None else ever[0]) >= seq
