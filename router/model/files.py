"""Why the system does not give us a file, in words that say what to change."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_IMODE, S_ISDIR


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
