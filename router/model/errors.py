"""Errors whose text is for people, and why a file cannot be used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISDIR


class RouterError(Exception):
    """The base of every error that the router raises on purpose."""


class Refused(RouterError):
    """A callback that is not accepted; nothing of it is forwarded."""

    def __init__(self, code: str, msg: str, why: str, field: str = "", caller: str = "") -> None:
        super().__init__(why)
        #: The contract code of the reply, which is its HTTP status too.
        self.code = code
        #: The message of the reply, worded like the platform's page.
        self.msg = msg
        #: The cause for the log, in English, with nothing of the body.
        self.why = why
        #: The faulty field, if it is one field.
        self.field = field
        #: The caller's address, if it was denied access.
        self.caller = caller


class StartFailed(RouterError):
    """The router cannot start: a port in use, a broken schema file (exit code 3)."""


class SettingInvalid(RouterError):
    """An invalid setting on the command line or in the environment (exit code 2)."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """An error or a warning about a file. Problems sort by their position in it."""

    #: The file's path as the user gave it.
    file: str
    #: From 1; 0 for the file as a whole.
    line: int
    column: int
    #: Where in the document's structure, for instance `routes[2].required`; may be empty.
    path: str
    #: The fault and, if it can be guessed, the correction. It never contains a secret.
    message: str
    #: The owner of the file, if it names one.
    owner: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        parts = [place, self.path, self.message]
        whose = f" ({self.owner})" if self.owner else ""
        return ": ".join(filter(None, parts)) + whose


class ConfigInvalid(RouterError):
    """A configuration that cannot be used, with every problem in it, sorted by position."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def why_not(path: Path, error: OSError) -> str:
    """The system's own words and, if permission is denied, owner and mode of the file or folder."""
    why = (error.strerror or "the system refused").lower()
    return f"{why}: {why_closed(path)}" if isinstance(error, PermissionError) else why


def may(path: Path, what: int) -> bool:
    """Return whether this process may do that to it; `what` is as for `os.access`."""
    return os.access(path, what, effective_ids=True)


def there(path: Path) -> Path:
    """The path, or the nearest folder above it that exists and can be seen."""
    return next((place for place in (path, *path.parents) if may(place, os.F_OK)), path)


def why_closed(path: Path) -> str:
    """Owner and mode of a file or folder, and the user of this process, as numbers, which mean the
    same outside of a container. If it cannot be seen, those of the folder above it."""
    place = there(path)
    try:
        status = place.stat()
        is_read_only = os.statvfs(place).f_flag & os.ST_RDONLY
    except OSError:
        return "none of its folders can be seen"
    sort = "folder" if S_ISDIR(status.st_mode) else "file"
    if is_read_only and may(place, os.R_OK):
        return f"the {sort} {str(place)!r} is on a read-only file system"
    return (
        f"the {sort} {str(place)!r} has owner {status.st_uid}:{status.st_gid} and mode "
        f"{S_IMODE(status.st_mode):04o}, and this process is {os.geteuid()}:{os.getegid()}"
    )
