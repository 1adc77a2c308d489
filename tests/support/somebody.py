"""Somebody who is not root, as in the container: for root nothing is closed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The user's number and the group's.
SOMEBODY = 65534


@contextmanager
def as_somebody() -> Iterator[None]:
    """A test that root runs is somebody for a while; any other stays who it is.

    The checkout and Python itself may be below a folder that is root's alone: a test has what it
    needs loaded before.
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
    """A folder that somebody reaches, where those of pytest are root's alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)
