"""Who can read a file."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_IROTH, S_IXOTH


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
