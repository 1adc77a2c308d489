"""Endpoints for the service: who asks, its status, its last hour, its nodes."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypedDict

from router import __version__
from router.config.holders import DEEDS, Permission
from router.ops.api.endpoint import ApiCall, Time, endpoint
from router.ops.hour import EventsHour, Hour
from router.ops.status import CauseView, status_of
from router.store.views import NodeView, node_view


class YouView(TypedDict):
    """Who asks, and their permissions."""

    name: str | None
    owner: str | None
    may: list[Permission]
    #: Whether this router has tokens.
    tokens: bool
    version: str


class StatusView(TypedDict):
    """`ok`, or `degraded` with every reason; and, if everything is visible, all checks."""

    status: str
    reasons: list[str]
    #: The same reasons, as data.
    causes: list[CauseView]
    at: Time
    version: str
    targets: dict[str, Any]


class NodesView(TypedDict):
    """The processes that share the store, or this router alone."""

    shared: bool
    nodes: list[NodeView]


@endpoint("GET", "/you", may=DEEDS)
async def you(call: ApiCall) -> YouView:
    """Who asks, and their permissions"""
    holder = call.holder
    return YouView(
        name=holder.name,
        owner=holder.owner or None,
        may=[deed for deed in DEEDS if deed in holder.may],
        tokens=bool(call.parts.tokens),
        version=__version__,
    )


@endpoint("GET", "/minutes")
async def minutes(call: ApiCall) -> EventsHour:
    """The last hour by the minute; for a team, the attempts at its targets"""
    view, hour = call.view(), Hour(call.parts.insight.minutes(), time.time())
    if view.is_whole:
        return hour.events()
    # In a thread: with many targets it takes some milliseconds.
    own = await asyncio.to_thread(hour.attempts, view.targets)
    return EventsHour(
        at=own["at"],
        events=own["attempts"],
        failed=own["failed"],
        p50_ms=own["p50_ms"],
        p99_ms=own["p99_ms"],
    )


@endpoint("GET", "/status", replies=StatusView)
async def status(call: ApiCall) -> dict[str, Any]:
    """How the service does, and what is wrong, as in /status"""
    view = call.view()
    report = status_of(view.report(), time.time())
    if view.is_whole:
        return report
    targets = report["targets"]
    return {
        **{name: report[name] for name in ("at", "version", "targets")},
        "status": "ok" if targets["ok"] else "degraded",
        "reasons": [f"targets: {why}" for why in targets["reasons"]],
        "causes": [cause for cause in report["causes"] if cause["check"] == "targets"],
    }


@endpoint("GET", "/nodes", problems=(404, 503))
async def nodes(call: ApiCall) -> NodesView:
    """The processes that share the store; not for teams, since they have everybody's events"""
    call.require_no_team()
    if not call.parts.is_shared:
        return NodesView(shared=False, nodes=[call.parts.insight.node()])
    async with call.parts.stored.question() as admin:
        found = await admin.nodes() or ()
    return NodesView(shared=True, nodes=[*map(node_view, found)])
