"""The store that a command looks into: the one of `serve` with these settings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from router.cli.options import add_settings, mind_password, read_setting
from router.config import SETTINGS
from router.model import StartFailed
from router.store import Database, StoreLimits

if TYPE_CHECKING:
    from router.store import Ops
    from router.store.postgres.ops import PostgresOps


def add_store(parser: argparse.ArgumentParser) -> None:
    store = SETTINGS["store"]
    parser.add_argument(
        store.option,
        metavar=store.metavar,
        help=f"the router's store (default {store.default}; {store.variable})",
    )
    add_settings(parser, "store_password_file")


async def open_ops(args: argparse.Namespace, without: str = "there are no deliveries") -> Ops:
    """Raises StartFailed, which says what it means to be `without` a store; makes no file and no
    table."""
    mind_password(args)
    store = read_setting(args, "store")
    if store is None:
        raise StartFailed(f"with --store none nothing is remembered: {without}")
    if isinstance(store, Database):
        return await _open(store, args)
    from router.store.sqlite.ops import SqliteOps

    return await SqliteOps.open(store, _limits(args))


async def open_nodes(args: argparse.Namespace) -> PostgresOps:
    """Raises StartFailed."""
    mind_password(args)
    store = read_setting(args, "store")
    if not isinstance(store, Database):
        raise StartFailed(
            "only nodes that share a store in PostgreSQL are listed there; how a single one does "
            "is on its ops port: /status"
        )
    return await _open(store, args)


async def _open(database: Database, args: argparse.Namespace) -> PostgresOps:
    from router.store.postgres import Address
    from router.store.postgres.ops import PostgresOps

    address = Address.of(database, read_setting(args, "store_password_file"))
    return await PostgresOps.open(address, _limits(args))


def _limits(args: argparse.Namespace) -> StoreLimits:
    return StoreLimits(read_setting(args, "store_max_bytes"), read_setting(args, "store_max_rows"))
