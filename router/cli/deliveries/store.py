"""The store that a command looks into: the one of `serve` with these settings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from router.cli.options import add_settings, mind_password, read_setting
from router.config import SETTINGS
from router.model import StartFailed
from router.store import Database, StoreLimits, look_into

if TYPE_CHECKING:
    from router.store import Ops


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
    limits = StoreLimits(
        read_setting(args, "store_max_bytes"), read_setting(args, "store_max_rows")
    )
    return await look_into(store, limits, read_setting(args, "store_password_file"))


async def open_nodes(args: argparse.Namespace) -> Ops:
    """Raises StartFailed."""
    if not isinstance(read_setting(args, "store"), Database):
        raise StartFailed(
            "only nodes that share a store in PostgreSQL are listed there; how a single one does "
            "is on its ops port: /status"
        )
    return await open_ops(args)
