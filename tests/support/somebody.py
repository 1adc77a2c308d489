"""Running tests without root's rights, as in the container."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The number of the user and the group.
SOMEBODY = 65534


@contextmanager
def as_somebody() -> Iterator[None]:
    """Run the block as an unprivileged user, if the tests run as root.

    The checkout and Python may be unreadable to that user, so a test imports what it needs before.
    """
    root = os.geteuid() == 0
    if root:
        os.setegid(SOMEBODY)
        os.seteuid(SOMEBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)


@contextmanager
def reachable() -> Iterator[Path]:
    """Return a folder that this user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)
