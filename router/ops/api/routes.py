"""The routes in force, the last reloads, and the plan for an event."""

from __future__ import annotations

import asyncio
from typing import Literal, TypedDict, cast

from router.config.explaining import Explained, RefusedEvent
from router.model.event import FIELDS
from router.ops.api.endpoint import LONGEST_TEXT, ApiCall, Param, Time, endpoint, marked
from router.ops.api.view import RouteFacts, View
from router.ops.problems import Rejected
from router.telemetry.log.lines import utc


class ReloadView(TypedDict):
    """One reload: its changes, or the problems for which it was refused."""

    at: Time
    result: Literal["taken", "refused"]
    hash: str | None
    changes: list[str]
    problems: list[str]


class RoutesView(TypedDict):
    """The configuration in force, and the last reloads, newest first."""

    hash: str
    since: Time
    #: What happens to an event that no route matches.
    unmatched: str
    #: How many requests EBaaS makes for an event.
    requests: int
    routes: list[RouteFacts]
    reloads: list[ReloadView]


@endpoint("GET", "/routes")
async def routes(call: ApiCall) -> RoutesView:
    """The routes in force, and the last reloads"""
    view, standing = call.view(), call.parts.insight.standing
    reloads = [
        ReloadView(
            at=utc(each.at),
            result="taken" if each.hash else "refused",
            hash=each.hash or None,
            changes=[*each.changes],
            problems=[*each.problems],
        )
        for each in standing.reloads
    ]
    return RoutesView(
        hash=view.config.hash,
        since=utc(standing.since),
        unmatched=view.config.unmatched,
        requests=1 + view.config.ebaas.schedule.retries,
        routes=await asyncio.to_thread(list, view.routes()),
        # Changes may be about other teams.
        reloads=reloads if view.is_whole else [],
    )


@endpoint(
    "POST",
    "/explain",
    takes=(
        Param("key", "An event's key, without the event", {"type": "string"}),
        Param("event", "A whole event", {"type": "object"}),
        marked("all", "Return all routes, not only the nearest of those that do not match"),
    ),
)
async def explain(call: ApiCall) -> Explained | RefusedEvent:
    """Which routes an event matches, why the others don't, and its plan; nothing is sent"""
    key, event = call.body["key"], call.body["event"]
    if (key is None) == (event is None):
        raise Rejected("key_or_event")
    if key == "":
        raise Rejected("invalid_text", name="key", why="is empty")
    texts = [("key", key), *((name, (event or {}).get(name)) for name in FIELDS)]
    for name, text in texts:
        # Each route that the event matches repeats the text.
        if isinstance(text, str) and len(text) > LONGEST_TEXT:
            why = f"is longer than {LONGEST_TEXT} characters"
            raise Rejected("invalid_text", name=name, why=why)
    async with call.parts.reader.turn():
        explained = await asyncio.to_thread(
            call.parts.insight.explain, key, event, whole=bool(call.body["all"])
        )
    if "refused" in explained:
        return explained
    view = call.view()
    metrics = view.report().metrics
    for each in explained["targets"]:
        numbers = metrics.targets.get(each["name"])
        each["paused"] = each["paused"] or (numbers is not None and numbers.pause is not None)
    return explained if view.is_whole else _visible(explained, view)


def _visible(explained: Explained, view: View) -> Explained:
    own = view.route_names
    shown = [each for each in explained["routes"] if each["name"] in own]
    plan = {
        role: [name for name in cast("list[str]", names) if name in view.targets]
        for role, names in explained["plan"].items()
    }
    return {
        **explained,
        "plan": {"required": plan["required"], "optional": plan["optional"]},
        "unmatched": None,
        "targets": [each for each in explained["targets"] if each["name"] in view.targets],
        "routes": shown,
        "left": len(own) - len(shown),
    }
