"""The nodes that share the store, or the processes of the only one."""

from __future__ import annotations

from typing import TypedDict

from router.ops.answers import Topic
from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.rejected import nothing_there
from router.store import NodeShape


class NodesShape(TypedDict):
    """The processes that share the store, or those of this router alone."""

    shared: bool
    nodes: list[NodeShape]


async def nodes(asked: Asked) -> NodesShape:
    """The processes that share the store"""
    if asked.holder.owner:
        raise nothing_there("such thing for a team: nodes have everybody's events")
    found: list[NodeShape] = await asked.parts.processes.ask(Topic.NODE)
    return NodesShape(shared=False, nodes=found)


NODES = (Endpoint("GET", "/nodes", nodes, NodesShape, problems=(404,)),)
