"""The store that a command looks into: the one of `serve` with these settings."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from router.cli.options import add_settings, mind_password, read_setting
from router.model.errors import RouterError, StartFailed
from router.store.opening import look_into
from router.store.promises import StoreFailed, StoreLimits

if TYPE_CHECKING:
    from router.store.ops import Ops


def add_store(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, store="the router's store")
    add_settings(parser, "store_password_file")


@contextmanager
def opened_ops(args: argparse.Namespace) -> Iterator[tuple[asyncio.Runner, Ops]]:
    """The store, and what runs each question to it: between two of them Ctrl-C works as ever.
    Raises RouterError, also for what goes wrong with the store while it is open."""
    with asyncio.Runner() as runner:
        ops = runner.run(open_ops(args))
        try:
            yield runner, ops
        except StoreFailed as error:
            raise RouterError(f"the store failed: {error.told}") from None
        finally:
            runner.run(ops.close())


async def open_ops(args: argparse.Namespace) -> Ops:
    """Raises StartFailed; makes no file and no table."""
    mind_password(args)
    store = read_setting(args, "store")
    if store is None:
        raise StartFailed(
            "with --store none nothing is remembered, neither deliveries nor pauses; "
            "`paused` of routes.yaml needs no store"
        )
    limits = StoreLimits(read_setting(args, "store_max_bytes"))
    return await look_into(store, limits, read_setting(args, "store_password_file"))
