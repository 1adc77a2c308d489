"""Endpoints for the service: its status, its last hour, its nodes, its routes; and the holder of
the token."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Literal, NotRequired, TypedDict, cast

from router import __version__
from router.config.explaining import Explained, RefusedEvent, refused
from router.config.explaining import explained as explained_by
from router.config.holders import PERMISSIONS, Permission
from router.delivery.observations import ObservedView
from router.model.errors import Refused
from router.model.event import Event
from router.ops.api.endpoint import EVENT, FLAG, TEXT, ApiCall, Param, Time, endpoint
from router.ops.api.view import RouteFacts, View
from router.ops.hour import EventsHour, Hour
from router.ops.insight import RefusedFile
from router.ops.problems import Rejected
from router.ops.status import CauseView, status_of
from router.store.views import NodeView, node_view
from router.telemetry.log.lines import utc


class YouView(TypedDict):
    """The holder of the token, and their permissions."""

    name: str | None
    owner: str | None
    may: list[Permission]
    #: True if this router has tokens.
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
    #: For a team: its files whose text on disk is not in force. For others they are below
    #: `configuration`.
    refused: NotRequired[list[RefusedFile]]
    #: How EBaaS calls, and how that differs from routes.yaml.
    observed: NotRequired[ObservedView]


class NodesView(TypedDict):
    """The processes that share the store, or this router alone."""

    shared: bool
    nodes: list[NodeView]


@endpoint("GET", "/you", may=PERMISSIONS)
async def you(call: ApiCall) -> YouView:
    """The holder of the token, and their permissions"""
    holder = call.holder
    return YouView(
        name=holder.name,
        owner=holder.owner or None,
        may=[permission for permission in PERMISSIONS if permission in holder.may],
        tokens=bool(call.parts.tokens),
        version=__version__,
    )


@endpoint("GET", "/minutes")
async def minutes(call: ApiCall) -> EventsHour:
    """The last hour by the minute; for a team, the attempts at its targets"""
    view, hour = call.view, Hour(call.parts.insight.minutes(), time.time())
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
    """The status of the service, with the reasons if it is degraded, as in /status"""
    view = call.view
    report = status_of(view.report(), time.time())
    if view.is_whole:
        return report
    targets, own = report["targets"], view.refused_files()
    return {
        **{name: report[name] for name in ("at", "version", "targets")},
        "status": "ok" if targets["ok"] and not own else "degraded",
        "reasons": [
            *(f"targets: {why}" for why in targets["reasons"]),
            *(
                f"configuration: {problem}"
                for file in own
                for problem in file["problems"] or [f"{file['file']} waits for routes.yaml"]
            ),
        ],
        "causes": [cause for cause in report["causes"] if cause["check"] == "targets"],
        "refused": own,
    }


@endpoint("GET", "/nodes")
async def nodes(call: ApiCall) -> NodesView:
    """The processes that share the store; not for teams, since they have everybody's events"""
    call.require_no_team()
    if not call.parts.is_shared:
        return NodesView(shared=False, nodes=[node_view(call.parts.insight.node())])
    async with call.parts.stored.question() as admin:
        shared = await admin.nodes() or ()
    return NodesView(shared=True, nodes=[*map(node_view, shared)])


class ReloadView(TypedDict):
    """One reload: its changes, or the problems of refused files of one owner."""

    at: Time
    result: Literal["taken", "refused"]
    hash: str | None
    owner: str | None
    changes: list[str]
    problems: list[str]


class RoutesView(TypedDict):
    """The configuration in force, and the last reloads, newest first."""

    hash: str
    since: Time
    #: The treatment of an event that no route matches.
    unmatched: str
    #: The number of requests that EBaaS makes for an event.
    requests: int
    routes: list[RouteFacts]
    #: The visible files whose text on disk is not in force.
    refused: list[RefusedFile]
    reloads: list[ReloadView]


@endpoint("GET", "/routes")
async def routes(call: ApiCall) -> RoutesView:
    """The routes in force, and the last reloads"""
    view, config_state = call.view, call.parts.insight.config_state
    reloads = [
        ReloadView(
            at=utc(reload.at),
            result="taken" if reload.hash else "refused",
            hash=reload.hash or None,
            owner=reload.owner or None,
            changes=[*reload.changes],
            problems=[*reload.problems],
        )
        for reload in config_state.reloads
        # Changes may be about other teams.
        if view.is_whole or (reload.owner and view.sees(reload.owner))
    ]
    return RoutesView(
        hash=view.config.hash,
        since=utc(config_state.since),
        unmatched=view.config.unmatched,
        requests=1 + view.config.ebaas.schedule.retries,
        routes=await asyncio.to_thread(list, view.routes()),
        refused=view.refused_files(),
        reloads=reloads,
    )


@endpoint(
    "POST",
    "/explain",
    takes=(
        Param("key", "An event's key, without the event", TEXT),
        Param("event", "A whole event", EVENT),
        Param("all", "All routes, not only the nearest of those that do not match", FLAG),
    ),
)
async def explain(call: ApiCall) -> Explained | RefusedEvent:
    """The routes that an event matches, why the others don't, and its plan; nothing is sent"""
    key, event = call.body["key"], call.body["event"]
    if (key is None) == (event is None):
        raise Rejected("key_or_event")
    insight = call.parts.insight

    def work() -> Explained | RefusedEvent:
        try:
            if key is not None:
                read = Event.of({"event_key": key})
            else:
                read = insight.intake.read(json.dumps(event).encode())
        except Refused as error:
            return refused(error)
        return explained_by(read, insight.config_state.config, whole=bool(call.body["all"]))

    # In a thread: with many routes it takes milliseconds.
    async with call.parts.reader.turn():
        explained = await asyncio.to_thread(work)
    if "refused" in explained:
        return explained
    view = call.view
    metrics = view.report().metrics
    for target in explained["targets"]:
        numbers = metrics.targets.get(target["name"])
        target["paused"] = target["paused"] or (numbers is not None and numbers.pause is not None)
    return explained if view.is_whole else _visible(explained, view)


def _visible(explained: Explained, view: View) -> Explained:
    own = view.route_names
    shown = [route for route in explained["routes"] if route["name"] in own]
    plan = {
        role: [name for name in cast("list[str]", names) if name in view.targets]
        for role, names in explained["plan"].items()
    }
    return {
        **explained,
        "plan": {"required": plan["required"], "optional": plan["optional"]},
        "unmatched": None,
        "targets": [target for target in explained["targets"] if target["name"] in view.targets],
        "routes": shown,
        "left": len(own) - len(shown),
    }
