"""The nodes that share the store, or the only one."""

from __future__ import annotations

from typing import TypedDict

from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.rejected import nothing_there
from router.store.shapes import NodeShape, node_shape


class NodesShape(TypedDict):
    """The processes that share the store, or this router alone."""

    shared: bool
    nodes: list[NodeShape]


async def nodes(asked: Asked) -> NodesShape:
    """The processes that share the store; a team is told of none: they have everybody's events"""
    if asked.holder.owner:
        raise nothing_there("such thing for a team")
    if asked.parts.is_shared:
        async with asked.parts.stored.asked() as ops:
            found = await ops.nodes() or ()
        return NodesShape(shared=True, nodes=[*map(node_shape, found)])
    return NodesShape(shared=False, nodes=[asked.parts.insight.node()])


NODES = (Endpoint("GET", "/nodes", nodes, NodesShape, problems=(404, 503)),)
