"""Errors that are for people, and the words for what is wrong with a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISDIR


class RouterError(Exception):
    """The base of every error that the router raises on purpose; its text is for people."""


class Refused(RouterError):
    """A callback that the contract does not allow; nothing of it is forwarded."""

    def __init__(self, code: str, msg: str, why: str, field: str = "", caller: str = "") -> None:
        super().__init__(why)
        #: The contract code of the reply, which is its HTTP status too.
        self.code = code
        #: What the caller is told, in the voice of the platform's page.
        self.msg = msg
        #: The same for the log, in English, with nothing of the body in it.
        self.why = why
        #: The faulty field, where one field is at fault.
        self.field = field
        #: The caller's address, where it was denied access.
        self.caller = caller


class StartFailed(RouterError):
    """The router can't start: a taken port, a broken schema file (exit code 3)."""


class SettingInvalid(RouterError):
    """A setting on the command line or in the environment that can't be used (exit code 2)."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong, or dubious, in a file, with its place. Problems sort by place."""

    #: The file's path as the user gave it.
    file: str
    #: From 1; 0 where the file as a whole is meant.
    line: int
    column: int
    #: Where in the document's structure, for instance `routes[2].required`; may be empty.
    path: str
    #: What is wrong and, where one is likely, what was meant. Never a secret's value.
    message: str
    #: Who answers for the file, where it says so.
    owner: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = [place, self.path, self.message]
        whose = f" ({self.owner})" if self.owner else ""
        return ": ".join(filter(None, parts)) + whose


class ConfigInvalid(RouterError):
    """A configuration that can't be used; it has every problem, sorted by place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def why_not(path: Path, error: OSError) -> str:
    """What `error` says, and of a file or folder that is closed to us who may enter it."""
    why = (error.strerror or "the system refused").lower()
    return f"{why}: {closed(path)}" if isinstance(error, PermissionError) else why


def may(path: Path, what: int) -> bool:
    """Whether we may do to it what `what` says, as `os.access` has it."""
    return os.access(path, what, effective_ids=True)


def there(path: Path) -> Path:
    """The path, or the folder that it would be in, as far as we may see."""
    return next((each for each in (path, *path.parents) if may(each, os.F_OK)), path)


def closed(path: Path) -> str:
    """Whose it is, by numbers, which mean the same outside of a container, and who we are.

    Of what can't be seen, or is not there, the folder is told that it would be in.
    """
    each = there(path)
    try:
        found = each.stat()
        is_read_only = os.statvfs(each).f_flag & os.ST_RDONLY
    except OSError:
        return "none of its folders can be seen"
    sort = "folder" if S_ISDIR(found.st_mode) else "file"
    if is_read_only and may(each, os.R_OK):
        return f"the {sort} {str(each)!r} is on a read-only file system"
    return (
        f"the {sort} {str(each)!r} has owner {found.st_uid}:{found.st_gid} and mode "
        f"{S_IMODE(found.st_mode):04o}, and this process is {os.geteuid()}:{os.getegid()}"
    )
