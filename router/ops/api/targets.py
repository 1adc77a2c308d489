"""Endpoints for targets, and for pausing them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypedDict, get_args

from router.model.event import Attempt
from router.model.secret import MASK
from router.ops.api.endpoint import Asked, Endpoint, Rejected, Time, nothing_there
from router.ops.api.view import RouteFacts, View
from router.ops.hour import AttemptsHour, Hour, HourSums
from router.ops.insight import Report, utc_or_none
from router.routing.target import Target
from router.store.admin import pause, paused, resume
from router.store.views import PauseView, pause_view
from router.telemetry.log.lines import utc
from router.telemetry.metrics import TargetMetrics

#: A target in one word. What needs a person soonest comes first.
TargetState = Literal[
    "failing", "dead_letters", "paused", "breaker_open", "waiting", "well", "unused"
]
WORST: tuple[TargetState, ...] = get_args(TargetState)


class BreakerView(TypedDict):
    """How many processes have the target's breaker in each state."""

    closed: int
    open: int
    half_open: int


class RateFacts(TypedDict):
    """How often each process of the router may call a target."""

    per_second: float
    burst: int


class PausedByRoutes(TypedDict):
    """It is paused in routes.yaml, until that is changed."""

    by: Literal["routes.yaml"]


class PausedByPerson(TypedDict):
    """A person has paused it for a while."""

    by: Literal["person"]
    until: Time
    because: str
    who: str
    since: Time


class LastFailure(TypedDict):
    """The last attempt that it failed, with its own words."""

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
    """How a target does, as the API and /status show it."""

    owner: str
    state: TargetState
    in_flight: int
    limit: int
    last_acknowledged: Time | None
    failing_since: Time | None
    last_failure: LastFailure | None
    unsettled: UnsettledView


class TargetView(TargetNow):
    """How a target does."""

    name: str
    #: What may be a secret in it is `***`.
    url: str
    waiting: int
    rate: RateFacts | None
    breaker: BreakerView | None
    paused: PausedByPerson | PausedByRoutes | None
    #: When the first of the events that still need it is given up.
    gives_up: Time | None
    #: Its attempts over the last hour.
    hour: HourSums
    certificate_ends: Time | None
    required_by: list[str]
    optional_by: list[str]


class TargetsView(TypedDict):
    """All targets there are for who asks, the worst first."""

    targets: list[TargetView]


#: A route as one target has it. It is made so, since `as` is a word of Python's.
TargetRoute = TypedDict(
    "TargetRoute",
    {
        "name": str,
        "file": str,
        "line": int,
        "match": dict[str, list[str]],
        "as": Literal["required", "optional"],
    },
)


class OneTargetView(TargetView):
    """A target, its last hour by the minute, and the routes that name it."""

    minutes: AttemptsHour
    routes: list[TargetRoute]


async def targets(asked: Asked) -> TargetsView:
    """All targets, the worst first"""
    view, minutes = asked.view(), asked.parts.insight.minutes()
    # In a thread: an hour of many targets takes some milliseconds.
    found = await asyncio.to_thread(_targets, view, view.report(), Hour(minutes, time.time()))
    return TargetsView(targets=found)


async def target(asked: Asked) -> OneTargetView:
    """One target"""
    view, minutes = asked.view(), asked.parts.insight.minutes()
    hour, name = Hour(minutes, time.time()), asked.path["name"]
    for each in await asyncio.to_thread(_targets, view, view.report(), hour, name):
        own = hour.attempts((name,))
        return {**each, "minutes": own, "routes": [*_routes(view.routes(), name)]}
    raise nothing_there("such target")


def _targets(view: View, report: Report, hour: Hour, only: str = "") -> list[TargetView]:
    numbers = report.metrics.targets
    required, optional = _named_by(view.routes())
    found = [
        _target(
            name,
            numbers[name],
            each,
            hour.sums(name),
            (required.get(name, []), optional.get(name, [])),
        )
        for name, each in view.targets.items()
        if name in numbers and only in ("", name)
    ]
    return sorted(found, key=lambda each: (WORST.index(each["state"]), each["name"]))


def _named_by(routes: Iterable[RouteFacts]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
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
    numbers: TargetMetrics,
    target: Target,
    hour: HourSums,
    named_by: tuple[list[str], list[str]],
) -> TargetView:
    breaker = {state: int(count) for state, count in numbers.breaker.items()}
    rate = target.rate
    return TargetView(
        **target_now(numbers),
        name=name,
        url=target.public_url or MASK,
        waiting=numbers.waiting + numbers.waiting_for_rate,
        rate=None if rate is None else RateFacts(per_second=rate.per_second, burst=rate.burst),
        breaker=BreakerView(**breaker) if any(breaker.values()) else None,  # type: ignore[typeddict-item]
        paused=_paused(target, numbers.pause),
        gives_up=utc_or_none(numbers.gives_up),
        hour=hour,
        certificate_ends=utc_or_none(numbers.certificate_ends),
        required_by=named_by[0],
        optional_by=named_by[1],
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
        unsettled=UnsettledView(**unsettled),  # type: ignore[typeddict-item]
    )


def _state(numbers: TargetMetrics) -> TargetState:
    """One word for it. A pause is intended, so it counts more than what the target did before."""
    unsettled, breaker = numbers.unsettled, numbers.breaker
    if numbers.paused:
        return "paused"
    if numbers.failing:
        return "failing"
    if unsettled["dead"]:
        return "dead_letters"
    if breaker["open"] or breaker["half_open"]:
        return "breaker_open"
    now = numbers.waiting or numbers.waiting_for_rate
    if now or unsettled["queued"] or unsettled["awaiting"]:
        return "waiting"
    return "well" if numbers.last_acknowledged or numbers.failure else "unused"


def _paused(
    target: Target, pause: Mapping[str, Any] | None
) -> PausedByPerson | PausedByRoutes | None:
    if pause is not None:
        return by_person(pause["since"], pause["until"], pause["because"], pause["who"])
    return PausedByRoutes(by="routes.yaml") if target.paused else None


def by_person(since: float, until: float, because: str, who: str) -> PausedByPerson:
    return PausedByPerson(by="person", until=utc(until), because=because, who=who, since=utc(since))


def _last_failure(attempt: Attempt | None) -> LastFailure | None:
    if attempt is None:
        return None
    return LastFailure(
        at=utc(attempt.at),
        reason=attempt.reason,
        status=attempt.status,
        code=attempt.code,
        msg=attempt.msg,
        detail=attempt.detail,
    )


def _routes(routes: Iterable[RouteFacts], name: str) -> Iterator[TargetRoute]:
    for route in routes:
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
    Endpoint("GET", "/targets", targets, TargetsView),
    Endpoint("GET", "/targets/{name}", target, OneTargetView, problems=(404,)),
)


class PauseForView(TypedDict):
    """Until when, and why: for all who see it."""

    #: From now on, like 10m; or a moment.
    until: str
    because: str


class ResumeView(TypedDict):
    """Nothing."""


class PausedView(TypedDict):
    """How the target is held back from now on; null where it is not."""

    paused: PausedByPerson | PausedByRoutes | None
    #: The one that was made or ended; null where there was none to end.
    pause: PauseView | None


class PausesView(TypedDict):
    """The pauses that are in force, by target."""

    pauses: list[PauseView]


async def pauses(asked: Asked) -> PausesView:
    """The pauses of people that are in force"""
    view = asked.view()
    async with asked.parts.stored.asked() as ops:
        found = await paused(ops)
    return PausesView(pauses=[pause_view(each) for each in found if view.has(each.target)])


async def pause_target(asked: Asked) -> PausedView:
    """Hold a target back for a while: its optional deliveries wait, its required ones fail at once;
    in force in all processes within a second"""
    name = asked.path["name"]
    await _known(asked, name)
    async with asked.parts.stored.asked() as ops:
        try:
            made = await pause(
                ops, name, asked.body["until"], asked.body["because"], asked.holder.name or ""
            )
        except ValueError as error:
            raise Rejected(400, str(error)) from None
    return PausedView(
        paused=by_person(made.since, made.until, made.because, made.who), pause=pause_view(made)
    )


async def resume_target(asked: Asked) -> PausedView:
    """End a target's pause before its time; what routes.yaml pauses stays paused"""
    name = asked.path["name"]
    target = await _known(asked, name)
    async with asked.parts.stored.asked() as ops:
        ended = await resume(ops, name, asked.holder.name or "")
    return PausedView(
        paused=PausedByRoutes(by="routes.yaml") if target and target.paused else None,
        pause=None if ended is None else pause_view(ended),
    )


async def _known(asked: Asked, name: str) -> Target | None:
    """None if no router runs: who asks has to know the targets then."""
    if not asked.parts.is_running:
        return None
    view = asked.view()
    if name not in view.targets:
        raise nothing_there("such target")
    return view.targets[name]


PAUSING = (
    Endpoint("GET", "/pauses", pauses, PausesView, problems=(404, 503)),
    Endpoint(
        "POST",
        "/targets/{name}/pause",
        pause_target,
        PausedView,
        may=("pause",),
        takes=PauseForView,
        problems=(404,),
    ),
    Endpoint(
        "POST",
        "/targets/{name}/resume",
        resume_target,
        PausedView,
        may=("pause",),
        takes=ResumeView,
        problems=(404,),
    ),
)
