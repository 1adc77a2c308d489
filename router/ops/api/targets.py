"""The targets, the worst first, and one of them with its routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.rejected import nothing_there
from router.ops.api.target_shapes import (
    BreakerShape,
    LastFailure,
    OneTargetShape,
    PausedByPerson,
    PausedByRoutes,
    TargetRoute,
    TargetShape,
    TargetsShape,
    UnsettledShape,
)
from router.ops.api.view import View
from router.ops.hour import Hour, HourSums
from router.ops.report import FailedAttempt, PauseStatus, TargetStatus, told_at
from router.ops.status import WORST, state_of
from router.ops.table import RouteFacts, TargetFacts
from router.telemetry.log.lines import utc
from router.telemetry.minutes import Minute


async def targets(asked: Asked) -> TargetsShape:
    """All targets, the worst first"""
    view, told = await asked.view(), asked.parts.insight.minutes()
    return await asyncio.to_thread(_all_told, view, told)


async def target(asked: Asked) -> OneTargetShape:
    """One target"""
    view, told = await asked.view(), asked.parts.insight.minutes()
    found = await asyncio.to_thread(_told, view, told, asked.path["name"])
    if found is None:
        raise nothing_there("such target")
    return found


# In a thread: an hour of many targets takes some milliseconds.


def _all_told(view: View, told: dict[int, Minute]) -> TargetsShape:
    return TargetsShape(targets=_targets(view, Hour(told, time.time())))


def _told(view: View, told: dict[int, Minute], name: str) -> OneTargetShape | None:
    hour = Hour(told, time.time())
    for each in _targets(view, hour):
        if each["name"] == name:
            minutes, routes = hour.attempts((name,)), list(_routes(view, name))
            return {**each, "minutes": minutes, "routes": routes}
    return None


def _targets(view: View, hour: Hour) -> list[TargetShape]:
    metrics = view.report["metrics"]["targets"]
    lately_of = view.report["status"]["targets"]
    required, optional = _named_by(view.table["routes"])
    found = [
        _target(
            name,
            metrics[name],
            lately,
            view.targets[name],
            hour.sums(name),
            (required.get(name, []), optional.get(name, [])),
        )
        for name in view.targets
        if (lately := lately_of.get(name)) is not None
    ]
    return sorted(found, key=lambda each: (WORST.index(each["state"]), each["name"]))


def _named_by(routes: list[RouteFacts]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Which routes require each target, and for which it is optional."""
    required: dict[str, list[str]] = {}
    optional: dict[str, list[str]] = {}
    for route in routes:
        for name in route["required"]:
            required.setdefault(name, []).append(route["name"])
        for name in route["optional"]:
            optional.setdefault(name, []).append(route["name"])
    return required, optional


def _target(
    name: str,
    numbers: Mapping[str, Any],
    lately: TargetStatus,
    facts: TargetFacts,
    hour: HourSums,
    named_by: tuple[list[str], list[str]],
) -> TargetShape:
    breaker = {state: int(count) for state, count in numbers["breaker"].items()}
    unsettled = {state: int(count) for state, count in numbers["unsettled"].items()}
    return TargetShape(
        name=name,
        owner=facts["owner"],
        url=facts["url"],
        state=state_of(numbers, lately),
        in_flight=int(numbers["in_flight"]),
        limit=int(numbers["limit"]),
        waiting=int(numbers["waiting"] + numbers["waiting_for_rate"]),
        rate=facts["rate"],
        breaker=BreakerShape(**breaker) if any(breaker.values()) else None,  # type: ignore[typeddict-item]
        paused=_paused(facts, lately["pause"]),
        last_acknowledged=told_at(lately["acknowledged_at"]),
        failing_since=told_at(numbers["failing_since"]),
        last_failure=_last_failure(lately["failure"]),
        unsettled=UnsettledShape(**unsettled),  # type: ignore[typeddict-item]
        gives_up=told_at(numbers["gives_up"] or 0.0),
        hour=hour,
        certificate_ends=told_at(numbers["certificate_ends"]),
        required_by=named_by[0],
        optional_by=named_by[1],
    )


def _paused(
    facts: TargetFacts, pause: PauseStatus | None
) -> PausedByPerson | PausedByRoutes | None:
    if pause is not None:
        return by_person(pause["since"], pause["until"], pause["because"], pause["who"])
    return PausedByRoutes(by="routes.yaml") if facts["paused"] else None


def by_person(since: float, until: float, because: str, who: str) -> PausedByPerson:
    return PausedByPerson(by="person", until=utc(until), because=because, who=who, since=utc(since))


def _last_failure(failed: FailedAttempt | None) -> LastFailure | None:
    return failed and LastFailure(**{**failed, "at": utc(failed["at"])})


def _routes(view: View, name: str) -> Iterator[TargetRoute]:
    for route in view.table["routes"]:
        role: Literal["required", "optional"]
        for role in ("required", "optional"):
            if name in route[role]:
                yield {
                    "name": route["name"],
                    "file": route["file"],
                    "line": route["line"],
                    "match": route["match"],
                    "as": role,
                }


TARGETS = (
    Endpoint("GET", "/targets", targets, TargetsShape),
    Endpoint("GET", "/targets/{name}", target, OneTargetShape, problems=(404,)),
)
