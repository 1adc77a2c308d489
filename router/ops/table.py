"""The configuration in force as the console shows it: routes, and what each target is. Pure."""

from __future__ import annotations

from typing import TypedDict

from router.config.reload import Standing
from router.model.secret import MASK
from router.routing.table import Route
from router.routing.target import Target


class RateFacts(TypedDict):
    """How often each process of the router may call a target."""

    per_second: float
    burst: int


class TargetFacts(TypedDict):
    """What is written of a target; no secret of it."""

    owner: str
    #: As `check --print` prints it.
    url: str
    rate: RateFacts | None
    paused: bool


class RouteFacts(TypedDict):
    """One route: what it matches, by field, and which targets are then required or optional."""

    name: str
    #: Its path, as it was given to the router.
    file: str
    line: int
    match: dict[str, list[str]]
    required: list[str]
    optional: list[str]


class TableFacts(TypedDict):
    """The configuration in force."""

    hash: str
    #: When it was taken; Unix time, in seconds.
    since: float
    unmatched: str
    #: How many requests EBaaS makes of an event.
    requests: int
    targets: dict[str, TargetFacts]
    #: In the files' order.
    routes: list[RouteFacts]


def table_of(standing: Standing) -> TableFacts:
    config = standing.config
    return TableFacts(
        hash=config.hash,
        since=standing.since,
        unmatched=config.unmatched,
        requests=1 + config.ebaas.schedule.retries,
        targets={name: _target(each) for name, each in config.table.targets.items()},
        routes=[_route(each) for each in config.table.routes_as_written],
    )


def _target(target: Target) -> TargetFacts:
    rate = target.rate
    return TargetFacts(
        owner=target.owner,
        url=target.public_url or MASK,
        rate=None if rate is None else RateFacts(per_second=rate.per_second, burst=rate.burst),
        paused=target.paused,
    )


def _route(route: Route) -> RouteFacts:
    return RouteFacts(
        name=route.name,
        file=route.file,
        line=route.line,
        match={field: [*patterns] for field, patterns in route.match.items()},
        required=[*route.required],
        optional=[*route.optional],
    )
