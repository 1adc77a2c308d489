"""What is told of a target, as JSON: a TypedDict for each form."""

from __future__ import annotations

from typing import Literal, TypedDict

from router.ops.api.schema import Time
from router.ops.hour import AttemptsHour, HourSums
from router.ops.status import TargetState
from router.ops.table import RateFacts


class BreakerShape(TypedDict):
    """How many processes have the target's breaker in each state."""

    closed: int
    open: int
    half_open: int


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


class UnsettledShape(TypedDict):
    """Its deliveries in the store that are not settled."""

    awaiting: int
    queued: int
    dead: int


class TargetShape(TypedDict):
    """How a target does, over all processes."""

    name: str
    owner: str
    #: What may be a secret in it is `***`.
    url: str
    state: TargetState
    in_flight: int
    limit: int
    waiting: int
    rate: RateFacts | None
    breaker: BreakerShape | None
    paused: PausedByPerson | PausedByRoutes | None
    last_acknowledged: Time | None
    failing_since: Time | None
    last_failure: LastFailure | None
    unsettled: UnsettledShape
    #: When the first of the events that still need it is given up.
    gives_up: Time | None
    #: Its attempts over the last hour.
    hour: HourSums
    certificate_ends: Time | None
    required_by: list[str]
    optional_by: list[str]


class TargetsShape(TypedDict):
    """All targets there are for who asks, the worst first."""

    targets: list[TargetShape]


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


class OneTargetShape(TargetShape):
    """A target, its last hour by the minute, and the routes that name it."""

    minutes: AttemptsHour
    routes: list[TargetRoute]
