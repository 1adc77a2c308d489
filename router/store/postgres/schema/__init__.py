"""The tables and the functions on them, as the migrations that make them.

The logic of a call is a function of the database, so that it is one statement, one round trip and
one transaction, and its plans are kept without prepared statements, which poolers don't keep.

A schema's version is how many migrations it has had. Nodes of one version and of the next work on
it at the same time: after a migration, what the version before calls still takes what that says and
gives what it expects; what gives more has another name. A migration drops only what no older one
needs. Never change one that was released: add another.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

#: The scripts of each migration, in order.
_MIGRATIONS = (
    ("tables", "counting", "records", "queue", "acting", "nodes", "settings"),
    ("attempts", "records", "queue", "acting", "settings"),
    ("pauses", "notices", "giving_up", "counting", "hops", "settings"),
)

#: The scripts that a schema of the last version may lack, if it was made before that version was
#: released. They may run again.
_COMPLETION = ("hops", "settings")

SCHEMA_VERSION = len(_MIGRATIONS)


def migration(version: int, schema: str) -> str:
    """What leads from the version before to this one, to be run in a transaction; `schema` is a
    name that needs no quotes."""
    return _script(version, _MIGRATIONS[version - 1], schema)


def completion(schema: str) -> str:
    """The script that completes a schema of the last version, likewise."""
    return _script(SCHEMA_VERSION, _COMPLETION, schema)


def _script(version: int, names: Sequence[str], schema: str) -> str:
    folder = resources.files(__name__) / f"v{version}"
    scripts = ((folder / f"{name}.sql").read_text() for name in names)
    return "\n".join([f"SET LOCAL search_path = {schema}, pg_temp;", *scripts])
