"""The table of nodes: this process's own row, and everybody's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from router.store.nodes import FORGOTTEN, GONE, Node, Trouble
from router.store.postgres.pool import ServerPool
from router.store.postgres.rows import dumped


class PostgresNodes:
    """On the connections of a store."""

    def __init__(self, pool: ServerPool) -> None:
        self._call = pool.call

    async def beat(self, node: Node, timeout: float) -> Mapping[str, int]:
        return dict(await self._call("beat", [dumped(asdict(node)), GONE, FORGOTTEN], timeout))

    async def leave(self, node_id: str, timeout: float) -> None:
        await self._call("leave", [node_id], timeout)

    async def present(self, timeout: float) -> tuple[Node, ...]:
        """All whose rows are there, those that are gone included."""
        return tuple(_node(json.loads(row)) for (row,) in await self._call("present", [], timeout))


def _node(row: dict[str, Any]) -> Node:
    troubles = tuple(Trouble(**trouble) for trouble in row.pop("troubles"))
    return Node(**row, troubles=troubles)
