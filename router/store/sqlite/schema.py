"""The versions of a store's file, and the statements that upgrade it to this one.

A program of one version before can go back to a file of this version: an upgrade leaves alone what
that program uses.
"""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

#: The versions of releases; none had version 1. `sql/tables-N.sql` leads from the one before to N,
#: and never changes once it was released: add another.
VERSIONS = (2, 3, 4)

FILE_VERSION = VERSIONS[-1]

#: The oldest program that can work on a file of this version, by its own version: the file's header
#: has it. A program accepts a newer file whose header allows it.
OLDEST_PROGRAM = 2

#: Marks the file as this program's own, in SQLite's header: "EBaS".
APPLICATION_ID = 0x45426153


def migration(before: int) -> list[str]:
    """Return the statements that upgrade a file of version `before`, 0 for an empty one."""
    scripts = [_script(f"tables-{version}") for version in VERSIONS if version > before]
    triggers = _script("triggers")
    names = re.findall(r"CREATE TRIGGER (\w+)", triggers)
    scripts += [*(f"DROP TRIGGER IF EXISTS {name};" for name in names), triggers]
    return [
        *(statement for script in scripts for statement in _statements(script)),
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {OLDEST_PROGRAM}",
        "DELETE FROM version",
        f"INSERT INTO version VALUES ({FILE_VERSION})",  # noqa: S608 - our own number
    ]


def _script(name: str) -> str:
    return (resources.files(__package__) / f"sql/{name}.sql").read_text()


def _statements(script: str) -> list[str]:
    """Split a script: sqlite3's own executescript would commit in between."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
