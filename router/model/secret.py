"""Secret: a text that nothing prints; and who can read the file that one is in."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from stat import S_IROTH, S_IXOTH
from typing import NoReturn

#: What stands for a secret.
MASK = "***"


class Secret:
    """A text that `reveal` alone gives away: no print, log line, page, traceback or pickle has it.

    Texts that are equal are equal secrets, found out in a time that does not depend on where they
    differ. JSON refuses one, as it does every object that is no plain data.
    """

    __slots__ = ("_hash", "_shown", "_text")

    def __init__(self, text: str, shown: str = MASK) -> None:
        """`shown` is what is printed in its stead."""
        self._text = text
        self._shown = shown
        # Targets are looked up by what they are, their secrets included, with every attempt.
        self._hash = hash((Secret, text))

    def reveal(self) -> str:
        """The text, for whoever it is meant for."""
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
    """Whether everybody on this machine can read a file that is this user's own.

    What belongs to others, as a container's secrets often do, is theirs to protect; and behind a
    folder that is closed nobody gets at anything. False where there is no such file.
    """
    try:
        file, folder = path.stat(), path.parent.stat()
    except OSError:
        return False
    is_open = file.st_mode & S_IROTH and folder.st_mode & S_IXOTH
    return bool(is_open) and file.st_uid == os.geteuid()
