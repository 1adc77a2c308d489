"""`--version`: what a report of a fault should say of this installation."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from router import __version__
from router.cli.printing import NAME
from router.model.build import COMPILED


def format_version() -> Iterator[str]:
    """The router's own version first, alone on its line."""
    yield f"{NAME} {__version__}"
    libc = " ".join(filter(None, platform.libc_ver()))
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    build = "compiled" if COMPILED else "pure Python"
    yield ", ".join(filter(None, (python, build, system, libc)))
    yield f"SQLite {sqlite3.sqlite_version}, psycopg {_of('psycopg')}"


def _of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
