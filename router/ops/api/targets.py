"""Endpoints for targets, and for pausing them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, cast, get_args

from router.model.event import Attempt
from router.model.secret import MASK
from router.ops.api.endpoint import ANY_TEXT, ApiCall, Param, Time, endpoint
from router.ops.api.view import RouteFacts, View
from router.ops.hour import AttemptsHour, Hour, HourSums
from router.ops.insight import Report, utc_or_none
from router.ops.problems import Rejected
from router.routing.target import Target
from router.store.admin import pause, paused, resume
from router.store.views import PauseView, pause_view
from router.telemetry.log.lines import utc
from router.telemetry.metrics import TargetMetrics

#: A target's state, the most urgent first.
TargetState = Literal[
    "failing", "dead_letters", "paused", "breaker_open", "waiting", "well", "unused"
]
WORST: tuple[TargetState, ...] = get_args(TargetState)

Role = Literal["required", "optional"]


class BreakerView(TypedDict):
    """The number of processes with the target's breaker in each state."""

    closed: int
    open: int
    half_open: int


class RateFacts(TypedDict):
    """The rate at which each process of the router may call a target."""

    per_second: float
    burst: int


class PausedByRoutes(TypedDict):
    """Paused in routes.yaml, until that is changed."""

    by: Literal["routes.yaml"]


class PausedByPerson(TypedDict):
    """Paused by a person for a while."""

    by: Literal["person"]
    until: Time
    because: str
    who: str
    since: Time


class LastFailure(TypedDict):
    """The last failed attempt, with the target's own words."""

    at: Time
    reason: str
    status: int | None
    code: str
    msg: str
    detail: str


class UnsettledView(TypedDict):
    """Its deliveries in the store that are not settled."""

    awaiting: int
    queued: int
    dead: int


class TargetNow(TypedDict):
    """A target's state, as the API and /status show it."""

    owner: str
    state: TargetState
    in_flight: int
    limit: int
    last_acknowledged: Time | None
    failing_since: Time | None
    last_failure: LastFailure | None
    unsettled: UnsettledView


class TargetView(TargetNow):
    """A target's settings and state."""

    name: str
    #: Parts that may be a secret are `***`.
    url: str
    waiting: int
    rate: RateFacts | None
    breaker: BreakerView | None
    paused: PausedByPerson | PausedByRoutes | None
    #: When the first of the events that still need it is given up.
    expires_at: Time | None
    #: Its attempts in the last hour.
    hour: HourSums
    certificate_ends: Time | None
    required_by: list[str]
    optional_by: list[str]


class TargetsView(TypedDict):
    """All visible targets, the most urgent first."""

    targets: list[TargetView]


#: A route of one target. `as` is a keyword of Python's.
TargetRoute = TypedDict(
    "TargetRoute",
    {
        "name": str,
        "file": str,
        "line": int,
        "match": dict[str, list[str]],
        "except": dict[str, list[str]],
        "as": Role,
    },
)


class OneTargetView(TargetView):
    """A target, its last hour by the minute, and the routes that name it."""

    minutes: AttemptsHour
    routes: list[TargetRoute]


#: The routes of each target, by its role in them.
RoutesOf = Mapping[str, Sequence[tuple[Role, RouteFacts]]]


@endpoint("GET", "/targets")
async def targets(call: ApiCall) -> TargetsView:
    """All targets, the most urgent first"""
    view, hour = call.view(), Hour(call.parts.insight.minutes(), time.time())

    def views(report: Report) -> list[TargetView]:
        routes, metrics = _routes_of(view), report.metrics.targets
        return [
            _target_view(target, metrics[name], hour, routes)
            for name, target in view.targets.items()
            if name in metrics
        ]

    # In a thread: an hour of many targets takes some milliseconds.
    shown = await asyncio.to_thread(views, view.report())
    shown.sort(key=lambda each: (WORST.index(each["state"]), each["name"]))
    return TargetsView(targets=shown)


@endpoint("GET", "/targets/{name}", problems=(404,))
async def target(call: ApiCall) -> OneTargetView:
    """One target"""
    view, hour, name = (
        call.view(),
        Hour(call.parts.insight.minutes(), time.time()),
        call.path["name"],
    )
    metrics = view.report().metrics.targets
    if name not in view.targets or name not in metrics:
        raise Rejected("no_target")
    routes = await asyncio.to_thread(_routes_of, view)
    return {
        **_target_view(view.targets[name], metrics[name], hour, routes),
        "minutes": hour.attempts((name,)),
        "routes": [_target_route(role, route) for role, route in routes.get(name, ())],
    }


def _target_route(role: Role, route: RouteFacts) -> TargetRoute:
    facts = {key: value for key, value in route.items() if key not in ("required", "optional")}
    return cast("TargetRoute", {**facts, "as": role})


def _routes_of(view: View) -> RoutesOf:
    routes: defaultdict[str, list[tuple[Role, RouteFacts]]] = defaultdict(list)
    for route in view.routes():
        for role in ("required", "optional"):
            for name in route[role]:
                routes[name].append((role, route))
    return routes


def _target_view(
    target: Target, numbers: TargetMetrics, hour: Hour, routes_of: RoutesOf
) -> TargetView:
    breaker = {state: int(count) for state, count in numbers.breaker.items()}
    routes, rate = routes_of.get(target.name, ()), target.rate
    return TargetView(
        **target_now(numbers),
        name=target.name,
        url=target.public_url or MASK,
        waiting=numbers.waiting + numbers.waiting_for_rate,
        rate=None if rate is None else RateFacts(per_second=rate.per_second, burst=rate.burst),
        breaker=cast("BreakerView", breaker) if any(breaker.values()) else None,
        paused=_paused(target, numbers.pause),
        expires_at=utc_or_none(numbers.expires_at),
        hour=hour.sums(target.name),
        certificate_ends=utc_or_none(numbers.certificate_ends),
        required_by=[route["name"] for role, route in routes if role == "required"],
        optional_by=[route["name"] for role, route in routes if role == "optional"],
    )


def target_now(numbers: TargetMetrics) -> TargetNow:
    unsettled = {state: int(count) for state, count in numbers.unsettled.items()}
    return TargetNow(
        owner=numbers.about.get("owner", ""),
        state=_state(numbers),
        in_flight=numbers.in_flight,
        limit=numbers.limit,
        last_acknowledged=utc_or_none(numbers.last_acknowledged),
        failing_since=utc_or_none(numbers.failing_since),
        last_failure=_last_failure(numbers.failure),
        unsettled=cast("UnsettledView", unsettled),
    )


def _state(numbers: TargetMetrics) -> TargetState:
    """Return its state. A pause is intended, so it counts more than earlier failures."""
    unsettled, breaker = numbers.unsettled, numbers.breaker
    if numbers.paused:
        return "paused"
    if numbers.failing:
        return "failing"
    if unsettled["dead"]:
        return "dead_letters"
    if breaker["open"] or breaker["half_open"]:
        return "breaker_open"
    waiting = numbers.waiting or numbers.waiting_for_rate
    if waiting or unsettled["queued"] or unsettled["awaiting"]:
        return "waiting"
    return "well" if numbers.last_acknowledged or numbers.failure else "unused"


def _paused(
    target: Target | None, pause: Mapping[str, Any] | None
) -> PausedByPerson | PausedByRoutes | None:
    if pause is not None:
        since, until = utc(pause["since"]), utc(pause["until"])
        because, who = pause["because"], pause["who"]
        return PausedByPerson(by="person", until=until, because=because, who=who, since=since)
    return PausedByRoutes(by="routes.yaml") if target and target.paused else None


def _last_failure(attempt: Attempt | None) -> LastFailure | None:
    if attempt is None:
        return None
    words = {name: getattr(attempt, name) for name in ("reason", "status", "code", "msg", "detail")}
    return cast("LastFailure", {"at": utc(attempt.at), **words})


class PausedView(TypedDict):
    """A target's pause from now on; null if it is not paused."""

    paused: PausedByPerson | PausedByRoutes | None
    #: The pause that was made or ended; null if there was none to end.
    pause: PauseView | None


class PausesView(TypedDict):
    """The pauses in force, by target."""

    pauses: list[PauseView]


@endpoint("GET", "/pauses", problems=(404, 503))
async def pauses(call: ApiCall) -> PausesView:
    """The pauses in force that people made"""
    view = call.view()
    async with call.parts.stored.question() as admin:
        in_force = await paused(admin)
    return PausesView(pauses=[pause_view(each) for each in in_force if view.has(each.target)])


@endpoint(
    "POST",
    "/targets/{name}/pause",
    may=("pause",),
    takes=(
        Param("until", "A time from now, like 10m, or a time", ANY_TEXT, is_required=True),
        Param("because", "The reason, for all who see it", ANY_TEXT, is_required=True),
    ),
    problems=(404,),
)
async def pause_target(call: ApiCall) -> PausedView:
    """Pause a target for a while: its optional deliveries wait, its required ones fail at once; in
    force in all processes within a second"""
    name, body = call.path["name"], call.body
    target = _known(call, name)
    async with call.parts.stored.question() as admin:
        try:
            new = await pause(admin, name, body["until"], body["because"], call.holder.name or "")
        except ValueError as error:
            raise Rejected("invalid_pause", why=str(error)) from None
    facts = {name: getattr(new, name) for name in ("until", "because", "who", "since")}
    return PausedView(paused=_paused(target, facts), pause=pause_view(new))


@endpoint("POST", "/targets/{name}/resume", may=("pause",), takes=(), problems=(404,))
async def resume_target(call: ApiCall) -> PausedView:
    """End a target's pause before its time; a pause in routes.yaml stays"""
    name = call.path["name"]
    target = _known(call, name)
    async with call.parts.stored.question() as admin:
        ended = await resume(admin, name, call.holder.name or "")
    return PausedView(
        paused=_paused(target, None), pause=None if ended is None else pause_view(ended)
    )


def _known(call: ApiCall, name: str) -> Target | None:
    """Return the target. If no router runs, return None: the caller checks the name. Raises
    Rejected."""
    if not call.parts.is_running:
        return None
    target = call.view().targets.get(name)
    if target is None:
        raise Rejected("no_target")
    return target
