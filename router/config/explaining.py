"""What the router would do with an event, and why, as JSON has it. Pure."""

from __future__ import annotations

from typing import Literal, TypedDict, final

from router.config.loading import Config
from router.model.errors import Refused
from router.model.event import FIELDS, Event
from router.routing.table import RouteMatch, nearest_routes

#: How many of the routes that don't match are told.
NEAREST = 3


class ExplainedPlan(TypedDict):
    """The targets' names."""

    required: list[str]
    optional: list[str]


class ExplainedTarget(TypedDict):
    """A target of the plan, and the routes that name it, by name: those with it as optional also
    where another one requires it."""

    name: str
    required_by: list[str]
    optional_by: list[str]
    paused: bool


class ExplainedField(TypedDict):
    """A field that a route names: what the event has there, the patterns, and which one fits."""

    field: str
    value: str
    patterns: list[str]
    pattern: str | None


class ExplainedRoute(TypedDict):
    """A route that matches, or one of the nearest that do not."""

    name: str
    file: str
    line: int
    matched: bool
    fields: list[ExplainedField]


@final
class Explained(TypedDict):
    """What the router does with an event."""

    event: dict[str, str]
    plan: ExplainedPlan
    #: What an event gets that no route matches; None where one does.
    unmatched: Literal["reject", "accept"] | None
    targets: list[ExplainedTarget]
    #: Those that match come first.
    routes: list[ExplainedRoute]
    #: How many more there are that do not match.
    left: int


class RefusalView(TypedDict):
    """What EBaaS would get for a callback that is no event, and why."""

    code: str
    msg: str
    why: str


@final
class RefusedEvent(TypedDict):
    """What would become of a callback that is no event."""

    refused: RefusalView


def explained(event: Event, config: Config, *, whole: bool) -> Explained:
    """Why it goes where; of the routes that don't match, all or a few of the nearest."""
    explanation = config.table.explain(event)
    plan = explanation.plan
    nearest = len(explanation.routes) if whole else NEAREST
    matching = [route for route in explanation.routes if route.matched]
    others = nearest_routes(explanation.routes, nearest)
    return Explained(
        event={name: getattr(event, name) for name in FIELDS},
        plan=ExplainedPlan(
            required=[target.name for target in plan.required],
            optional=[target.name for target in plan.optional],
        ),
        unmatched=None if matching else config.unmatched,
        targets=[
            ExplainedTarget(
                name=target.name,
                required_by=[each.name for each in plan.routes if target.name in each.required],
                optional_by=[each.name for each in plan.routes if target.name in each.optional],
                paused=target.paused,
            )
            for target in sorted(plan.required + plan.optional, key=lambda each: each.name)
        ],
        routes=[_route(each) for each in (*matching, *others)],
        left=len(explanation.routes) - len(matching) - len(others),
    )


def _route(match: RouteMatch) -> ExplainedRoute:
    return ExplainedRoute(
        name=match.route.name,
        file=match.route.file,
        line=match.route.line,
        matched=match.matched,
        fields=[
            ExplainedField(
                field=each.field,
                value=each.value,
                patterns=list(each.patterns),
                pattern=each.pattern,
            )
            for each in match.fields
        ],
    )


def refused(error: Refused) -> RefusedEvent:
    return RefusedEvent(refused=RefusalView(code=error.code, msg=error.msg, why=error.why))
