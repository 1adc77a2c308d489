"""Secret: a text that nothing prints."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from stat import S_IROTH, S_IXOTH
from typing import NoReturn

#: Printed instead of a secret.
MASK = "***"


class Secret:
    """A text that only `reveal` returns: no print, log line, page, traceback or pickle contains it.

    Two secrets are compared in constant time. JSON refuses a secret like any other object.
    """

    __slots__ = ("_hash", "_shown", "_text")

    def __init__(self, text: str, shown: str = MASK) -> None:
        """`shown` is printed instead."""
        self._text = text
        self._shown = shown
        # Computed once: secrets are parts of values that are looked up with every attempt.
        self._hash = hash((Secret, text))

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"Secret({self._shown})"

    def __format__(self, spec: str) -> str:
        return format(self._shown, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._text), _bytes(other._text))

    def __hash__(self) -> int:
        return self._hash

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret can't be pickled")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def is_exposed(path: Path) -> bool:
    """Return whether everybody on this machine can read a file of this user.

    False for the files of others, as a container's secrets often are, in a folder that others
    cannot enter, and if there is no such file.
    """
    try:
        file, folder = path.stat(), path.parent.stat()
    except OSError:
        return False
    is_open = file.st_mode & S_IROTH and folder.st_mode & S_IXOTH
    return bool(is_open) and file.st_uid == os.geteuid()
