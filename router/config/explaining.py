"""The explanation of an event: what the router would do with it, and why, as JSON has it. Pure."""

from __future__ import annotations

from typing import Literal, TypedDict, final

from router.config.loading import Config
from router.model.errors import Refused
from router.model.event import FIELDS, Event
from router.routing.table import FieldMatch, nearest_routes

#: The number of routes shown that do not match.
NEAREST = 3


class ExplainedPlan(TypedDict):
    """The targets' names."""

    required: list[str]
    optional: list[str]


class ExplainedTarget(TypedDict):
    """A target of the plan, the names of the routes that name it, with `optional_by` also where
    another route requires it, and the queue's schedule for it."""

    name: str
    required_by: list[str]
    optional_by: list[str]
    paused: bool
    #: While it is optional: the most retries, and the seconds from the first attempt to the last.
    retries: int
    seconds: float


#: A route that matches, or one of the nearest that do not. `except`, a keyword of Python's, has the
#: fields of the exception that stops the event, if one does.
ExplainedRoute = TypedDict(
    "ExplainedRoute",
    {
        "name": str,
        "file": str,
        "line": int,
        "matched": bool,
        "fields": list[FieldMatch],
        "except": list[FieldMatch],
    },
)


@final
class Explained(TypedDict):
    """The plan for an event, and the reasons."""

    event: dict[str, str]
    plan: ExplainedPlan
    #: The reply if no route matches; None if one does.
    unmatched: Literal["reject", "accept"] | None
    targets: list[ExplainedTarget]
    #: Matching ones first.
    routes: list[ExplainedRoute]
    #: The number of other routes that do not match.
    left: int


class RefusalView(TypedDict):
    """The reply to a callback that is not an event, and the reason."""

    code: str
    msg: str
    why: str


@final
class RefusedEvent(TypedDict):
    """A callback that is not an event."""

    refused: RefusalView


def explained(event: Event, config: Config, *, whole: bool) -> Explained:
    """Explain an event; with `whole`, by every route that does not match instead of the nearest."""
    plan, routes = config.table.match(event), config.table.explain(event)
    matching = [route for route in routes if route.matched]
    others = nearest_routes(routes, len(routes) if whole else NEAREST)
    targets = sorted(plan.required + plan.optional, key=lambda target: target.name)
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
                required_by=[one.name for one in plan.routes if target.name in one.required],
                optional_by=[one.name for one in plan.routes if target.name in one.optional],
                paused=target.paused,
                retries=(target.queue or config.queue).retries,
                seconds=(target.queue or config.queue).total(),
            )
            for target in targets
        ],
        routes=[
            {
                "name": match.route.name,
                "file": match.route.file,
                "line": match.route.line,
                "matched": match.matched,
                "fields": match.fields,
                "except": match.exception,
            }
            for match in (*matching, *others)
        ],
        left=len(routes) - len(matching) - len(others),
    )


def refused(error: Refused) -> RefusedEvent:
    return RefusedEvent(refused=RefusalView(code=error.code, msg=error.msg, why=error.why))
