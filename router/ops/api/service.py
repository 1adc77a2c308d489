"""Endpoints for the service: its status, its last hour, its nodes, its routes; and the holder of
the token."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from router import __version__
from router.config.explaining import Explained, RefusedEvent, refused
from router.config.explaining import explained as explained_by
from router.config.holders import PERMISSIONS, Permission
from router.delivery.observations import ObservedView
from router.model.errors import Refused
from router.model.event import Event
from router.ops.api.endpoint import EVENT, FLAG, TEXT, Param, Time, endpoint
from router.ops.api.view import ApiCall, RouteFacts
from router.ops.hour import EventsHour, Hour
from router.ops.insight import RefusedFile
from router.ops.problems import Rejected
from router.ops.status import CauseView, refused_causes, status_of
from router.store.views import NodeView, node_view
from router.telemetry.log.lines import utc
from router.telemetry.metrics import TargetMetrics


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
    #: The same reasons as data, and notices, the worst first.
    causes: list[CauseView]
    at: Time
    #: Since when callbacks and attempts are counted: the start, or earlier if the archive has them.
    counted_since: Time
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
    return YouView(
        name=call.holder.name,
        owner=call.holder.owner or None,
        may=[permission for permission in PERMISSIONS if permission in call.holder.may],
        tokens=bool(call.parts.tokens),
        version=__version__,
    )


@endpoint("GET", "/minutes")
async def minutes(call: ApiCall) -> Callable[[], EventsHour]:
    """The last hour by the minute; for a team, the attempts at its targets"""
    history = call.parts.insight.history

    def make() -> EventsHour:
        hour = Hour(history, time.time())
        if call.is_whole:
            return hour.events()
        own = cast("dict[str, Any]", hour.attempts(call.targets))
        return cast("EventsHour", {"events": own.pop("attempts"), **own})

    return make


@endpoint("GET", "/status")
async def status(call: ApiCall) -> Callable[[], StatusView]:
    """The status of the service, with the reasons if it is degraded, as in /status"""
    report = call.parts.insight.report()

    def make() -> StatusView:
        whole = cast("StatusView", status_of(call.visible(report), time.time()))
        if call.is_whole:
            return whole
        targets, own = whole["targets"], call.refused_files()
        problems = sum(len(file["problems"]) for file in own)
        return StatusView(
            status="ok" if targets["ok"] and not own else "degraded",
            reasons=[
                *(f"targets: {why}" for why in targets["reasons"]),
                *(
                    f"configuration: {problem}"
                    for file in own
                    for problem in file["problems"] or [f"{file['file']} waits for routes.yaml"]
                ),
            ],
            causes=[
                *refused_causes(own, utc(report.config_state.tried_at), problems),
                *(cause for cause in whole["causes"] if cause["check"] == "targets"),
            ],
            at=whole["at"],
            counted_since=whole["counted_since"],
            version=whole["version"],
            targets=targets,
            refused=own,
        )

    return make


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
async def routes(call: ApiCall) -> Callable[[], RoutesView]:
    """The routes in force, and the last reloads"""
    config_state = call.parts.insight.config_state
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
        if call.is_whole or (reload.owner and call.holder.sees(reload.owner))
    ]
    config, since = call.config, utc(config_state.since)
    return lambda: RoutesView(
        hash=config.hash,
        since=since,
        unmatched=config.unmatched,
        requests=1 + config.ebaas.schedule.retries,
        routes=[*call.routes()],
        refused=call.refused_files(),
        reloads=reloads,
    )


@endpoint(
    "POST",
    "/explain",
    params=(
        Param("key", "An event's key, without the event", TEXT),
        Param("event", "A whole event", EVENT),
        Param("all", "All routes, not only the nearest of those that do not match", FLAG),
    ),
)
async def explain(call: ApiCall) -> Callable[[], Explained | RefusedEvent]:
    """The routes that an event matches, why the others don't, and its plan; nothing is sent"""
    key, event, insight = call["key"], call["event"], call.parts.insight
    if (key is None) == (event is None):
        raise Rejected("key_or_event")
    config, metrics = call.config, insight.report().metrics.targets

    def make() -> Explained | RefusedEvent:
        try:
            if key is not None:
                read = Event.of({"event_key": key})
            else:
                read = insight.intake.read(json.dumps(event).encode())
        except Refused as error:
            return refused(error)
        return _visible(explained_by(read, config, whole=bool(call["all"])), metrics, call)

    return make


def _visible(
    explained: Explained, metrics: Mapping[str, TargetMetrics], call: ApiCall
) -> Explained:
    explained["targets"] = [each for each in explained["targets"] if each["name"] in call.targets]
    for target in explained["targets"]:
        numbers = metrics.get(target["name"])
        target["paused"] = target["paused"] or (numbers is not None and numbers.pause is not None)
    if call.is_whole:
        return explained
    plan, own = explained["plan"], call.route_names
    routes = [route for route in explained["routes"] if route["name"] in own]
    return {
        **explained,
        "plan": {
            "required": [name for name in plan["required"] if name in call.targets],
            "optional": [name for name in plan["optional"] if name in call.targets],
        },
        "unmatched": None,
        "routes": routes,
        "left": len(own) - len(routes),
    }
