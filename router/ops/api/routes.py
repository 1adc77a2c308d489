"""The routes in force, the last reloads, and what would become of an event."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NotRequired, TypedDict

from router.config.explaining import Explained, RefusedEvent
from router.model.event import FIELDS
from router.ops.api.endpoint import LONGEST_TEXT, Asked, Endpoint, Rejected, Time
from router.ops.api.view import RouteFacts, View
from router.telemetry.log.lines import utc


class ReloadView(TypedDict):
    """One reload: what was different with it, or why it was refused."""

    at: Time
    result: Literal["taken", "refused"]
    hash: str | None
    changes: list[str]
    problems: list[str]


class RoutesView(TypedDict):
    """The configuration in force, and the last reloads, newest first."""

    hash: str
    since: Time
    #: What an event gets that no route matches.
    unmatched: str
    #: How many requests EBaaS makes of an event.
    requests: int
    routes: list[RouteFacts]
    reloads: list[ReloadView]


class ExplainView(TypedDict):
    """An event: its key alone, or all of it; and whether every route is to be told."""

    key: NotRequired[str]
    event: NotRequired[dict[str, Any]]
    all: NotRequired[Literal[True]]


async def routes(asked: Asked) -> RoutesView:
    """The routes in force, and the last reloads"""
    view = asked.view()
    return RoutesView(
        hash=view.config.hash,
        since=utc(asked.parts.insight.standing.since),
        unmatched=view.config.unmatched,
        requests=1 + view.config.ebaas.schedule.retries,
        routes=await asyncio.to_thread(list, view.routes()),
        # What was changed is not the holder's alone.
        reloads=_reloads(asked) if view.is_whole else [],
    )


def _reloads(asked: Asked) -> list[ReloadView]:
    return [
        ReloadView(
            at=utc(each["at"]),
            result="taken" if each["hash"] else "refused",
            hash=each["hash"] or None,
            changes=each["changes"],
            problems=each["problems"],
        )
        for each in asked.parts.insight.reloads()
    ]


async def explain(asked: Asked) -> Explained | RefusedEvent:
    """Which routes an event matches, why the others don't, and its plan; nothing is sent"""
    if ("key" in asked.body) == ("event" in asked.body):
        raise Rejected(400, "key or event has to be given, and not both")
    if asked.body.get("key") == "":
        raise Rejected(400, "key: is empty")
    event = asked.body.get("event", {})
    for name, text in [
        ("key", asked.body.get("key")),
        *((name, event.get(name)) for name in FIELDS),
    ]:
        # Each route that it matches repeats it.
        if isinstance(text, str) and len(text) > LONGEST_TEXT:
            raise Rejected(400, f"{name}: is longer than {LONGEST_TEXT} characters")
    async with asked.parts.reader.turn():  # it is read once more, as EBaaS's would be
        said = await asyncio.to_thread(asked.parts.insight.explain, asked.body)
    if "refused" in said:
        return said
    view = asked.view()
    metrics = view.report().metrics
    for each in said["targets"]:
        numbers = metrics.targets.get(each["name"])
        each["paused"] = each["paused"] or (numbers is not None and numbers.pause is not None)
    return said if view.is_whole else _narrowed(said, view)


def _narrowed(said: Explained, view: View) -> Explained:
    """As far as it concerns the targets that there are."""
    names, own = view.targets, view.route_names()
    shown = [each for each in said["routes"] if each["name"] in own]
    return Explained(
        event=said["event"],
        plan={
            "required": [name for name in said["plan"]["required"] if name in names],
            "optional": [name for name in said["plan"]["optional"] if name in names],
        },
        unmatched=None,
        targets=[each for each in said["targets"] if each["name"] in names],
        routes=shown,
        left=len(own) - len(shown),
    )


ROUTES = (
    Endpoint("GET", "/routes", routes, RoutesView),
    Endpoint("POST", "/explain", explain, Explained | RefusedEvent, takes=ExplainView),
)
