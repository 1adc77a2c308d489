"""Endpoints for targets, and for pausing them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, NotRequired, TypedDict, cast, get_args

from router.model.event import Attempt
from router.model.secret import MASK
from router.ops.api.endpoint import TEXT, Param, Time, endpoint
from router.ops.api.view import ApiCall
from router.ops.hour import AttemptsHour, Hour, HourSums
from router.ops.insight import utc_or_none
from router.ops.problems import Rejected
from router.routing.target import Target
from router.store.admin import pause, paused, resume
from router.store.views import PauseView, RecoveryView, pause_view
from router.telemetry.health import State
from router.telemetry.log.lines import utc
from router.telemetry.metrics import TargetMetrics

#: The severities, the worst first. A notice is not a problem.
Severity = Literal["critical", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


class PausedView(TypedDict):
    """A pause: in routes.yaml, until that is changed, or by a person for a while."""

    by: Literal["routes.yaml", "person"]
    #: These are there if it is by a person.
    until: NotRequired[Time]
    because: NotRequired[str]
    who: NotRequired[str]
    since: NotRequired[Time]


class LastFailure(TypedDict):
    """The last failed attempt, with the target's own words."""

    at: Time
    reason: str
    status: int | None
    code: str
    msg: str
    detail: str


class LatelyView(TypedDict):
    attempts: int
    failed: int


class TargetNow(TypedDict):
    """A target's state, as the API and /status show it."""

    owner: str
    state: State
    #: Null if there is no problem.
    severity: Severity | None
    #: The recent attempts that its state is decided by, and how many of them failed.
    lately: LatelyView
    in_flight: int
    limit: int
    last_acknowledged: Time | None
    #: Since when it is failing or degraded.
    failing_since: Time | None
    last_failure: LastFailure | None
    #: The number of its deliveries in the store that are `awaiting`, `queued` or `dead`.
    unsettled: dict[str, int]
    recovery: RecoveryView | None


class TargetView(TargetNow):
    """A target's settings and state."""

    name: str
    #: Parts that may be a secret are `***`.
    url: str
    waiting: int
    #: The rate at which each process may call it: `per_second` and `burst`.
    rate: dict[str, float] | None
    #: The number of processes with its breaker `closed`, `open` or `half_open`.
    breaker: dict[str, int] | None
    paused: PausedView | None
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
        "as": Literal["required", "optional"],
    },
)

#: The routes of each target.
RoutesOf = Mapping[str, Sequence[TargetRoute]]


class OneTargetView(TargetView):
    """A target, its last hour by the minute, and the routes that name it."""

    minutes: AttemptsHour
    routes: list[TargetRoute]


@endpoint("GET", "/targets")
async def targets(call: ApiCall) -> Callable[[], TargetsView]:
    """All targets, the most urgent first"""
    insight = call.parts.insight
    metrics = insight.report().metrics.targets

    def make() -> TargetsView:
        routes, hour = _routes_of(call), Hour(insight.history, time.time())
        names = sorted(
            (name for name in call.targets if name in metrics),
            key=lambda name: urgency(name, metrics[name]),
        )
        views = (
            _target_view(call.targets[name], metrics[name], hour, routes.get(name, ()))
            for name in names
        )
        return TargetsView(targets=[*views])

    return make


@endpoint("GET", "/targets/{name}")
async def target(call: ApiCall) -> Callable[[], OneTargetView]:
    """One target"""
    insight, name = call.parts.insight, call["name"]
    target, metrics = call.target(name), insight.report().metrics.targets
    if target is None or name not in metrics:
        raise Rejected("no_target")

    def make() -> OneTargetView:
        hour = Hour(insight.history, time.time())
        routes = _routes_of(call).get(name, ())
        shown = _target_view(target, metrics[name], hour, routes)
        return {**shown, "minutes": hour.attempts((name,)), "routes": [*routes]}

    return make


def _routes_of(call: ApiCall) -> RoutesOf:
    routes: defaultdict[str, list[TargetRoute]] = defaultdict(list)
    for route in call.routes():
        facts = {key: route[key] for key in ("name", "file", "line", "match", "except")}
        for role in ("required", "optional"):
            for name in route[role]:
                routes[name].append(cast("TargetRoute", {**facts, "as": role}))
    return routes


def _target_view(
    target: Target, numbers: TargetMetrics, hour: Hour, routes: Sequence[TargetRoute]
) -> TargetView:
    rate = target.rate
    return TargetView(
        **target_now(numbers),
        name=target.name,
        url=target.public_url or MASK,
        waiting=numbers.waiting + numbers.waiting_for_rate,
        rate={"per_second": rate.per_second, "burst": rate.burst} if rate else None,
        breaker=_whole(numbers.breaker) if any(numbers.breaker.values()) else None,
        paused=_paused(target, numbers.pause),
        expires_at=utc_or_none(numbers.expires_at),
        hour=hour.sums(target.name),
        certificate_ends=utc_or_none(numbers.certificate_ends),
        required_by=[route["name"] for route in routes if route["as"] == "required"],
        optional_by=[route["name"] for route in routes if route["as"] == "optional"],
    )


def target_now(numbers: TargetMetrics) -> TargetNow:
    return TargetNow(
        owner=numbers.about.get("owner", ""),
        state=numbers.state,
        severity=severity_of(numbers),
        lately={"attempts": numbers.health.attempts, "failed": numbers.health.failed},
        in_flight=numbers.in_flight,
        limit=numbers.limit,
        last_acknowledged=utc_or_none(numbers.last_acknowledged),
        failing_since=utc_or_none(numbers.failing_since),
        last_failure=_last_failure(numbers.failure),
        unsettled=_whole(numbers.unsettled),
        recovery=recovery_view(numbers),
    )


def recovery_view(numbers: TargetMetrics) -> RecoveryView | None:
    recovery = numbers.recovery
    if recovery is None:
        return None
    return cast("RecoveryView", {**recovery, "since": utc(recovery["since"])})


def _whole(numbers: Mapping[str, float]) -> dict[str, int]:
    return {name: int(number) for name, number in numbers.items()}


def _is_required(numbers: TargetMetrics) -> bool:
    return numbers.about.get("role") == "required"


def severity_of(numbers: TargetMetrics) -> Severity | None:
    state = numbers.state
    if state == "failing":
        return "critical" if _is_required(numbers) else "warning"
    if state == "degraded" or numbers.unsettled["dead"]:
        return "warning"
    return "notice" if state == "paused" else None


def urgency(name: str, numbers: TargetMetrics) -> tuple[Any, ...]:
    """Return the key by which targets are sorted, the most urgent first: by severity, required ones
    first, then by the deliveries at stake, and by the part of the attempts that failed."""
    severity, health = severity_of(numbers), numbers.health
    rank = SEVERITIES.index(severity) if severity else len(SEVERITIES)
    at_stake, is_idle = sum(numbers.unsettled.values()), numbers.state == "idle"
    return (rank, not _is_required(numbers), -at_stake, -health.part, is_idle, name)


def pause_facts(pause: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts about a person's pause, for people."""
    times = {name: utc(pause[name]) for name in ("since", "until")}
    return {**times, "because": pause["because"], "who": pause["who"]}


def _paused(target: Target | None, pause: Mapping[str, Any] | None) -> PausedView | None:
    if pause is not None:
        return cast("PausedView", {"by": "person", **pause_facts(pause)})
    return PausedView(by="routes.yaml") if target and target.paused else None


def _last_failure(attempt: Attempt | None) -> LastFailure | None:
    if attempt is None:
        return None
    words = {name: getattr(attempt, name) for name in ("reason", "status", "code", "msg", "detail")}
    return cast("LastFailure", {"at": utc(attempt.at), **words})


class PauseChange(TypedDict):
    """A target's pause from now on; null if it is not paused."""

    paused: PausedView | None
    #: The pause that was made or ended; null if there was none to end.
    pause: PauseView | None


class PausesView(TypedDict):
    """The pauses in force, by target."""

    pauses: list[PauseView]


@endpoint("GET", "/pauses")
async def pauses(call: ApiCall) -> PausesView:
    """The pauses in force that people made"""
    async with call.parts.stored.question() as admin:
        in_force = await paused(admin)
    return PausesView(pauses=[pause_view(p) for p in in_force if call.has(p.target)])


@endpoint(
    "POST",
    "/targets/{name}/pause",
    may=("pause",),
    params=(
        Param("until", "A time from now, like 10m, or a time", TEXT, is_required=True),
        Param("because", "The reason, for all who see it", TEXT, is_required=True),
    ),
)
async def pause_target(call: ApiCall) -> PauseChange:
    """Pause a target for a while: its optional deliveries wait, its required ones fail at once; in
    force in all processes within a second"""
    target = _known(call)
    async with call.parts.stored.question(changes=True) as admin:
        try:
            new = await pause(admin, call["name"], call["until"], call["because"], call.who)
        except ValueError as error:
            raise Rejected("invalid_pause", why=str(error)) from None
    return PauseChange(paused=_paused(target, asdict(new)), pause=pause_view(new))


@endpoint("POST", "/targets/{name}/resume", may=("pause",))
async def resume_target(call: ApiCall) -> PauseChange:
    """End a target's pause before its time; a pause in routes.yaml stays"""
    target = _known(call)
    async with call.parts.stored.question(changes=True) as admin:
        ended = await resume(admin, call["name"], call.who)
    return PauseChange(paused=_paused(target, None), pause=pause_view(ended) if ended else None)


def _known(call: ApiCall) -> Target | None:
    """Return the target. If no router runs, return None: the caller checks the name. Raises
    Rejected."""
    if call.parts.router is None:
        return None
    target = call.target(call["name"])
    if target is None:
        raise Rejected("no_target")
    return target
