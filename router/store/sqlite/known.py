"""Which bodies a file can hold, so that a look-up of another one does not have to look into it."""

from __future__ import annotations

import mmap
import sqlite3
from typing import Final, cast

from router.store.sqlite.log_index import CountedConnection

_NEXT: Final = "SELECT seq, digest FROM events WHERE seq > ? ORDER BY seq LIMIT ?"

#: How many digests are read at a time: 0.2 ms.
_STEP: Final = 200

#: How many are known at most: 3 MB.
MOST_KNOWN: Final = 20_000


class KnownDigests:
    """The digests of a file's events; those of some that were deleted since may be among them.

    Hardly any callback is of an event that is there, and to hear so from SQLite takes two locks and
    its cold code: a tenth of what an event costs.
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        #: All up to that one are known.
        self._last = 0
        #: Of the log's index.
        self._header: mmap.mmap | None = None
        #: What that was when all were known; empty where some may not be.
        self._as_of = b""

    def lacks(self, digest: bytes, cursor: sqlite3.Cursor) -> bool:
        """Whether the file surely has no event of that body, of whichever process. False says
        nothing. Raises sqlite3.Error."""
        if self._header is None:
            self._catch_up(cursor)
            self._header = cast("CountedConnection", cursor.connection).header()
            return False
        header = self._header[:]
        if header != self._as_of:
            # Read before the rows: who commits in between leaves another one.
            self._as_of = header if self._catch_up(cursor) else b""
        return header == self._as_of and digest not in self._digests

    def thin(self, events: int) -> None:
        """Begin anew where too many are known of what has that many events now."""
        if len(self._digests) > MOST_KNOWN and events < MOST_KNOWN / 2:
            self._digests.clear()
            self._last, self._as_of = 0, b""

    def _catch_up(self, cursor: sqlite3.Cursor) -> bool:
        """Get to know what was added; False where there may be more."""
        if len(self._digests) > MOST_KNOWN:
            return False
        found = cursor.execute(_NEXT, (self._last, _STEP)).fetchall()
        for self._last, digest in found:
            self._digests.add(digest)
        return len(found) < _STEP
