"""The schema: its tables and functions, made and upgraded by the first node that starts.

Each call of the store is one function of the database, and so one statement, one round trip and
one transaction. PostgreSQL keeps the plans inside the function, so the router needs no prepared
statements, which poolers do not keep.

Nodes of one version and of the next work on the schema at the same time. So a function that an
older version calls keeps its arguments and columns; one that returns more gets another name. A
script of tables that was released never changes: add another. Functions are edited in place.
"""

from __future__ import annotations

from importlib import resources

from router.model.errors import StartFailed
from router.store.postgres.connection import ServerConnection
from router.store.url import Database

#: The versions of releases. `sql/tables/N.sql` leads from the one before to N.
VERSIONS = (2, 3, 4)

SCHEMA_VERSION = VERSIONS[-1]

#: `sql/functions/`: the functions and triggers as they are now, made anew by every upgrade.
_FUNCTIONS = ("records", "attempts", "queue", "counting", "acting", "nodes", "settings")

#: The oldest release of PostgreSQL that is tested.
OLDEST = 15

#: By how many versions a schema may be newer than this program, as in a rolling upgrade.
AHEAD = 1


def migration(before: int, schema: str) -> str:
    """The statements that upgrade version `before`, 0 for none, to be run in one transaction;
    `schema` is a name that needs no quotes."""
    names = [f"tables/{version}" for version in VERSIONS if version > before]
    names += [f"functions/{name}" for name in _FUNCTIONS]
    folder = resources.files(__package__) / "sql"
    scripts = ((folder / f"{name}.sql").read_text() for name in names)
    version = f"DELETE FROM version; INSERT INTO version VALUES ({SCHEMA_VERSION});"  # noqa: S608 - ours
    return "\n".join([f"SET LOCAL search_path = {schema}, pg_temp;", *scripts, version])


async def migrate(connection: ServerConnection, database: Database) -> None:
    """Make or upgrade the schema. Raises StartFailed, with one line, Failed or Lost."""
    await _check_server(connection, database)
    schema = database.schema
    if await _version(connection, database) < SCHEMA_VERSION:
        await connection.fetch("BEGIN")
        # One of several nodes does it; the others then find it done.
        await connection.fetch(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [f"ebaas-router {schema}"]
        )
        before = await _version(connection, database)
        # An administrator may have made the schema for a user who may not.
        if before == 0 and not await connection.fetch(
            "SELECT FROM pg_namespace WHERE nspname = $1", [schema]
        ):
            await connection.fetch(f"CREATE SCHEMA {schema}")
        if before < SCHEMA_VERSION:
            await connection.fetch(migration(before, schema))
        await connection.fetch("COMMIT")
    await check(connection, database)


async def check(connection: ServerConnection, database: Database) -> None:
    """Check that this program can work on the schema. Raises as `migrate`; makes nothing."""
    version = await _version(connection, database)
    if version < SCHEMA_VERSION:
        raise failed(
            database, "its tables are not there, or old; a start of the router makes them ready"
        )
    if version > SCHEMA_VERSION + AHEAD:
        raise failed(
            database,
            f"the version of its schema is {version}, and this program knows {SCHEMA_VERSION}; "
            "a newer one has been here: start that, or put back the copy that was made before it",
        )


async def _version(connection: ServerConnection, database: Database) -> int:
    """Return the version, 0 for none.

    It queries the catalogue's tables, since functions that resolve names do not see another's
    commit within a transaction."""
    schema = database.schema
    if not await connection.fetch(
        "SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'version'", [schema]
    ):
        return 0
    rows = await connection.fetch(f"SELECT version FROM {schema}.version")  # noqa: S608 - as above
    return int(rows[0][0]) if rows else 0


async def _check_server(connection: ServerConnection, database: Database) -> None:
    ((encoding, version),) = await connection.fetch(
        "SELECT current_setting('server_encoding'), current_setting('server_version_num')::integer"
    )
    if encoding != "UTF8":
        raise failed(database, f"the encoding of the database is {encoding}; it has to be UTF8")
    if version < OLDEST * 10_000:
        raise failed(database, f"PostgreSQL {OLDEST} is the oldest supported version")


def failed(database: Database, why: str) -> StartFailed:
    return StartFailed(f"can't use the store {database}: {why}")
