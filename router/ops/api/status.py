"""Endpoints for the status of this node and of the others."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypedDict

from router import __version__
from router.config.holders import DEEDS, Permission
from router.ops.api.endpoint import Asked, Endpoint, Time, nothing_there
from router.ops.api.view import View
from router.ops.hour import EventsHour, Hour, Minute
from router.ops.status import status_of
from router.store.views import NodeView, node_view


class YouView(TypedDict):
    """Who asks, and what that may do."""

    name: str | None
    owner: str | None
    may: list[Permission]
    #: Whether anybody needs a token here.
    tokens: bool
    version: str


class StatusView(TypedDict):
    """`ok`, or `degraded` with every reason for it; and, where nothing is hidden, all checks."""

    status: str
    reasons: list[str]
    at: Time
    version: str
    targets: dict[str, Any]


async def you(asked: Asked) -> YouView:
    """Who asks, and what they may do"""
    holder = asked.holder
    return YouView(
        name=holder.name,
        owner=holder.owner or None,
        may=[deed for deed in DEEDS if deed in holder.may],
        tokens=bool(asked.parts.tokens),
        version=__version__,
    )


async def minutes(asked: Asked) -> EventsHour:
    """The last hour by the minute; a team is told of the attempts at its targets"""
    view = asked.view()
    told = asked.parts.insight.minutes()
    return await asyncio.to_thread(_hour, view, told)


def _hour(view: View, told: dict[int, Minute]) -> EventsHour:
    """In a thread: with many targets it takes some milliseconds."""
    hour = Hour(told, time.time())
    if view.is_whole:
        return hour.events()
    own = hour.attempts(view.targets)
    return EventsHour(
        at=own["at"],
        events=own["attempts"],
        failed=own["failed"],
        p50_ms=own["p50_ms"],
        p99_ms=own["p99_ms"],
    )


async def status(asked: Asked) -> StatusView | dict[str, Any]:
    """How the service does, and what is wrong: as /status has it"""
    view = asked.view()
    said = status_of(view.report(), time.time())
    if view.is_whole:
        return said
    targets = said["targets"]
    return StatusView(
        status="ok" if targets["ok"] else "degraded",
        reasons=[f"targets: {why}" for why in targets["reasons"]],
        at=said["at"],
        version=said["version"],
        targets=targets,
    )


STANDING = (
    Endpoint("GET", "/you", you, YouView, may=DEEDS),
    Endpoint("GET", "/status", status, StatusView),
    Endpoint("GET", "/minutes", minutes, EventsHour),
)


class NodesView(TypedDict):
    """The processes that share the store, or this router alone."""

    shared: bool
    nodes: list[NodeView]


async def nodes(asked: Asked) -> NodesView:
    """The processes that share the store; a team is told of none: they have everybody's events"""
    if asked.holder.owner:
        raise nothing_there("such thing for a team")
    if asked.parts.is_shared:
        async with asked.parts.stored.asked() as ops:
            found = await ops.nodes() or ()
        return NodesView(shared=True, nodes=[*map(node_view, found)])
    return NodesView(shared=False, nodes=[asked.parts.insight.node()])


NODES = (Endpoint("GET", "/nodes", nodes, NodesView, problems=(404, 503)),)
