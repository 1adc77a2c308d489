"""The JSON that people see of a store: a TypedDict for each kind, filled from the rows.

Commands print these, and make their texts from them. Times are ISO 8601 in UTC, to the second. In
place of an enum there may be its text, if it was read from JSON: compare by `==`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

from router.store.admin import Action, Entry, Group, Verb
from router.store.protocol import Node, Pause, State
from router.telemetry.log.lines import utc

#: States that may need a person come first.
_ORDER = (State.DEAD, State.QUEUED, State.AWAITING, State.SUPERSEDED, State.ACKNOWLEDGED)

#: The most groups that are shown.
_GROUPS = 500


class CountView(TypedDict):
    kind: Literal["count"]
    target: str
    state: State
    deliveries: int
    acknowledged_later: int
    oldest_at: str


class ExampleView(TypedDict):
    """The event of a group that was recorded last, and what its receiver said, as in a delivery."""

    event_id: str
    event_key: str
    said: str


class GroupView(TypedDict):
    """The deliveries of a target in a state, with the same reason."""

    kind: Literal["group"]
    target: str
    state: State
    reason: str
    deliveries: int
    acknowledged_later: int
    #: When the first requests of the oldest and the newest event arrived.
    oldest_at: str
    newest_at: str
    example: ExampleView


class ActionView(TypedDict):
    kind: Literal["action"]
    action_id: str
    verb: Verb
    who: str
    what: str
    at: str
    deliveries: int


class PauseView(TypedDict):
    kind: Literal["pause"]
    target: str
    since: str
    until: str
    because: str
    who: str
    #: The person who has resumed the target.
    resumed_by: str | None


class RecoveryView(TypedDict):
    """The recovery of a target in progress: it gets what waits for it, before its time."""

    #: `acknowledged`, `breaker_closed`, `pause_ended` or `operator`.
    trigger: str
    since: str
    #: Deliveries acknowledged so far, by this process.
    delivered: int
    #: The target's deliveries that wait.
    left: int
    #: Deliveries acknowledged a second, since it began.
    per_second: float


class EntryView(TypedDict):
    kind: Literal["delivery"]
    event_id: str
    event_key: str
    first_at: str
    target: str
    state: State
    reason: str
    #: The receiver's answer to the last failed attempt, or the error, `""` for none. 0.2.0 has no
    #: such field.
    said: NotRequired[str]
    retries: int
    #: When the queue tries it next; and whether an attempt is in flight until then, at the latest,
    #: a field that 0.2.0 does not have.
    due_at: str | None
    in_flight: NotRequired[bool]
    changed_at: str
    acknowledged_later_at: str | None
    later_event: str | None
    action: ActionView | None


class TroubleView(TypedDict):
    at: str
    what: str


class NodeView(TypedDict):
    kind: Literal["node"]
    node_id: str
    host: str
    pid: int
    address: str
    version: str
    config: str
    uptime_seconds: float
    silent_seconds: float
    gone: bool
    ready: bool
    figures: dict[str, float]
    troubles: list[TroubleView]


V = TypeVar("V")

#: The members that are times, besides those whose names end with `_at`.
_TIMES = ("at", "since", "until")


def _filled(form: type[V], source: object, **members: Any) -> V:
    """Return a view: the members given, and those of the source with the same names."""
    view: Any = {}
    for name in form.__annotations__:
        value = members[name] if name in members else getattr(source, name)
        is_time = name.endswith("_at") or name in _TIMES
        view[name] = utc(value) if is_time and value is not None else value
    return view  # type: ignore[no-any-return]


def count_views(groups: Iterable[Group]) -> list[CountView]:
    """Count by target and state: by target, and states that may need a person first."""

    def key(group: Group) -> tuple[str, int]:
        return group.target, _ORDER.index(group.state)

    counts: list[CountView] = []
    for _, same in groupby(sorted(groups, key=key), key):
        of = [*same]
        counts.append(
            _filled(
                CountView,
                of[0],
                kind="count",
                deliveries=sum(group.deliveries for group in of),
                acknowledged_later=sum(group.acknowledged_later for group in of),
                oldest_at=min(group.oldest_at for group in of),
            )
        )
    return counts


def group_views(groups: Iterable[Group]) -> list[GroupView]:
    """Return the first groups: states that may need a person first, then the largest."""
    ordered = sorted(groups, key=lambda g: (_ORDER.index(g.state), -g.deliveries, g.target))
    return [
        _filled(GroupView, g, kind="group", example=_filled(ExampleView, g, said=g.answer))
        for g in ordered[:_GROUPS]
    ]


def action_view(action: Action) -> ActionView:
    return _filled(ActionView, action, kind="action", what=action.text)


def pause_view(pause: Pause) -> PauseView:
    return _filled(PauseView, pause, kind="pause", resumed_by=pause.resumed_by or None)


def entry_view(entry: Entry) -> EntryView:
    row, action = entry.row, entry.action
    return _filled(
        EntryView,
        entry,
        kind="delivery",
        target=row.target,
        state=row.state,
        reason=row.reason,
        said=entry.answer,
        retries=row.retries,
        due_at=row.due_at if row.state is State.QUEUED else None,
        in_flight=row.is_leased,
        later_event=entry.later_event or None,
        action=None if action is None else action_view(action),
    )


def node_view(node: Node) -> NodeView:
    return _filled(
        NodeView,
        node,
        kind="node",
        uptime_seconds=round(node.uptime, 1),
        silent_seconds=round(node.silent, 1),
        troubles=[{"at": utc(trouble.at), "what": trouble.what} for trouble in node.troubles],
    )
