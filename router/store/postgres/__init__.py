"""PostgreSQL, for several nodes: the same rows, on a server that all of them share."""

from router.store.postgres.address import DatabaseAddress
from router.store.postgres.store import PostgresStore
