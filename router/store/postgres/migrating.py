"""The schema made and brought up to date, by whichever node comes first."""

from __future__ import annotations

from router.model.errors import StartFailed
from router.store.postgres.address import DatabaseAddress
from router.store.postgres.connection import ServerConnection
from router.store.postgres.schema import SCHEMA_VERSION, completion, migration

#: How much newer than this program a schema may be: the new nodes of a rolling upgrade make it so.
AHEAD = 1


async def migrate(connection: ServerConnection, address: DatabaseAddress) -> None:
    """Raises StartFailed, with one line, for a database that can't be used; Failed or Lost."""
    await _check_encoding(connection, address)
    schema = address.schema
    if not await _is_complete(connection, schema):
        await connection.script("BEGIN")
        # Of several nodes one does it, and the others see it done.
        await connection.fetch(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [f"ebaas-router {schema}"]
        )
        for version in range(await _version(connection, schema) + 1, SCHEMA_VERSION + 1):
            if version == 1:
                await _make(connection, schema)
            await connection.script(migration(version, schema))
            await connection.script(
                f"DELETE FROM {schema}.version; INSERT INTO {schema}.version VALUES ({version})"  # noqa: S608 - a name that needs no quotes
            )
        if not await _is_complete(connection, schema):
            await connection.script(completion(schema))
        await connection.script("COMMIT")
    await check(connection, address)


async def check(connection: ServerConnection, address: DatabaseAddress) -> None:
    """That the schema is one this program can work on. Raises the same; makes nothing."""
    version = await _version(connection, address.schema)
    if not await _is_complete(connection, address.schema):
        raise failed(
            address, "its tables are not there, or old; a start of the router makes them ready"
        )
    if version > SCHEMA_VERSION + AHEAD:
        raise failed(
            address,
            f"the version of its schema is {version}, and this program knows {SCHEMA_VERSION}; "
            "a newer one has been here: start that, or put back the copy that was made before it",
        )


async def _is_complete(connection: ServerConnection, schema: str) -> bool:
    """Whether the schema has all that this program needs. Version 3 got its last column before it
    was released, so its number alone does not say so."""
    found = await connection.fetch(
        "SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'letters' AND a.attname = 'hops'",
        [schema],
    )
    return bool(found) and await _version(connection, schema) >= SCHEMA_VERSION


async def _make(connection: ServerConnection, schema: str) -> None:
    """Somebody else may have made it for a user who may not."""
    if not await connection.fetch("SELECT FROM pg_namespace WHERE nspname = $1", [schema]):
        await connection.script(f"CREATE SCHEMA {schema}")


async def _version(connection: ServerConnection, schema: str) -> int:
    """0 where there is none. Asked of the catalogue's tables: what looks names up by itself does
    not hear of another's commit within a transaction."""
    found = await connection.fetch(
        "SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'version'", [schema]
    )
    if not found:
        return 0
    rows = await connection.fetch(f"SELECT version FROM {schema}.version")  # noqa: S608 - as above
    return int(rows[0][0]) if rows else 0


async def _check_encoding(connection: ServerConnection, address: DatabaseAddress) -> None:
    ((encoding, version),) = await connection.fetch(
        "SELECT current_setting('server_encoding'), current_setting('server_version_num')::integer"
    )
    if encoding != "UTF8":
        raise failed(address, f"the encoding of the database is {encoding}; it has to be UTF8")
    if version < OLDEST * 10_000:
        raise failed(address, f"PostgreSQL {OLDEST} is the oldest that will do")


#: The oldest release of PostgreSQL that is tried.
OLDEST = 15


def failed(address: DatabaseAddress, why: str) -> StartFailed:
    return StartFailed(f"can't use the store {address.shown}: {why}")
