"""Two configurations compared: the events that get another plan, and the edits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

from router.config import effective
from router.config.document import shown
from router.config.loading import Config
from router.model.event import Event
from router.routing.table import Plan, Role, Route
from router.routing.target import Target

T = TypeVar("T")

#: The changes of a target's role, the most dangerous first; None: it is not in the plan.
_DANGER: list[tuple[Role | None, Role | None]] = [
    ("required", "optional"),
    ("required", None),
    ("optional", None),
    ("optional", "required"),
    (None, "required"),
    (None, "optional"),
]


class Move(NamedTuple):
    """A target whose role differs between two plans of an event."""

    #: Of the target.
    name: str
    before: Role | None
    after: Role | None

    @property
    def danger(self) -> int:
        """0 is the worst."""
        return _DANGER.index((self.before, self.after))

    @property
    def is_loss(self) -> bool:
        """True if the target no longer gets the event, or no reply waits for it any more."""
        return self.before is not None and self.after != "required"


#: An event is matched by a route, or gets the reply of `unmatched`.
Fate = Literal["matched", "reject", "accept"]


class Change(NamedTuple):
    """The change for an event. Events with the same change are in one group."""

    before: Fate
    after: Fate
    #: The worst first.
    moves: tuple[Move, ...]

    @property
    def newly_unmatched(self) -> bool:
        return self.before == "matched" != self.after

    @property
    def danger(self) -> int:
        """0 is the worst: no route matches any more."""
        return 0 if self.newly_unmatched or not self.moves else 1 + self.moves[0].danger


@dataclass(slots=True)
class Group:
    """The events with one change. It grows while events are added."""

    change: Change
    #: The routes that match the first event, before and after.
    before: tuple[Route, ...]
    after: tuple[Route, ...]
    #: The number of events of each key.
    keys: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        return self.keys.total()


class Comparison:
    """Two configurations, and the differences for the events added so far."""

    def __init__(self, old: Config, new: Config) -> None:
        self._old = old
        self._new = new
        self._groups: dict[Change, Group] = {}
        #: The number of events added.
        self.events = 0
        #: The names of routes that match any of them, before or after.
        self.matched: set[str] = set()

    def add(self, event: Event, times: int = 1) -> None:
        """Add an event that came so many times."""
        self.events += times
        before, after = self._old.table.match(event), self._new.table.match(event)
        self.matched.update(route.name for route in before.routes + after.routes)
        change = self._change(before, after)
        if change is not None:
            group = self._groups.setdefault(change, Group(change, before.routes, after.routes))
            group.keys[event.event_key] += times

    @property
    def changed(self) -> int:
        """The number of events for which something differs."""
        return sum(group.events for group in self._groups.values())

    def groups(self) -> list[Group]:
        """Return the groups, the most dangerous first, then the one with the most events."""
        return sorted(
            self._groups.values(),
            key=lambda group: (group.change.danger, -group.events, min(group.keys)),
        )

    def owner(self, target: str) -> str:
        """Return the owner of a target in the new configuration, or else in the old one."""
        known = {**self._old.table.targets, **self._new.table.targets}.get(target)
        return known.owner if known else ""

    def moves(self) -> list[tuple[Move, int]]:
        """Return the moves of all groups with their events: the most dangerous first, then the one
        with the most events."""
        totals: Counter[Move] = Counter()
        for group in self._groups.values():
            totals.update(dict.fromkeys(group.change.moves, group.events))
        return sorted(totals.items(), key=lambda item: (item[0].danger, -item[1], item[0].name))

    def _change(self, before: Plan, after: Plan) -> Change | None:
        fate: Fate = "matched" if before.routes else self._old.unmatched
        new_fate: Fate = "matched" if after.routes else self._new.unmatched
        old, new = before.roles, after.roles
        moves = [Move(name, old.get(name), new.get(name)) for name in old.keys() | new.keys()]
        moves = [move for move in moves if move.before != move.after]
        moves.sort(key=lambda move: (move.danger, move.name))
        return Change(fate, new_fate, tuple(moves)) if moves or fate != new_fate else None


class Detail(NamedTuple):
    """A value that differs, as it may be printed. If both sides are equal, they are masked."""

    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """Format the values, without the name."""
        if self.before == self.after:
            return f"changed ({_text(self.after)})"
        return f"{_text(self.before)} → {_text(self.after)}"


#: The most items of a list that are shown.
_FEW = 5


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(below)}" for name, below in value.items())
    if isinstance(value, list):
        more = [f"{len(value) - _FEW:,} more"] if len(value) > _FEW else []
        return ", ".join([*map(str, value[:_FEW]), *more])
    return str(value)


class Edit(NamedTuple):
    """A target, a route or the settings that differ."""

    kind: Literal["target", "route", "settings"]
    #: Of the target or route.
    name: str
    what: Literal["added", "removed", "changed"]
    #: The values that changed.
    details: tuple[Detail, ...] = ()

    def __str__(self) -> str:
        """Format it on one line."""
        about = self.kind if self.kind == "settings" else f"{self.kind} {shown(self.name)}"
        details = ", ".join(f"{detail.name} {shown(str(detail))[1:-1]}" for detail in self.details)
        return ": ".join(filter(None, (f"{about} {self.what}", details)))


def edits_of(old: Config, new: Config) -> list[Edit]:
    """Return the edits: targets, then routes, each by name, then settings. Order in a file is not
    a difference."""
    before, after = ({route.name: route for route in config.table.routes} for config in (old, new))
    edits = [
        *_named("target", old.table.targets, new.table.targets, _target),
        *_named("route", before, after, effective.route),
    ]
    settings = _details(*(_flat(effective.settings(config)) for config in (old, new)))
    return [*edits, Edit("settings", "", "changed", settings)] if settings else edits


def _named(
    kind: Literal["target", "route"],
    old: Mapping[str, T],
    new: Mapping[str, T],
    words: Callable[[T], dict[str, Any]],
) -> Iterator[Edit]:
    for name in sorted({**old, **new}):
        if name not in old:
            yield Edit(kind, name, "added")
        elif name not in new:
            yield Edit(kind, name, "removed")
        elif old[name] != new[name] and (details := _details(words(old[name]), words(new[name]))):
            yield Edit(kind, name, "changed", details)


def _target(target: Target) -> dict[str, Any]:
    return _flat(effective.target(target))


def _flat(words: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of sections by names like `breaker.pause`."""
    flat: dict[str, Any] = {}
    for name, value in words.items():
        parts = sorted(value.items()) if isinstance(value, dict) else ()
        flat |= {f"{name}.{part}": below for part, below in parts} or {name: value}
    return flat


def _details(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Detail, ...]:
    return tuple(
        Detail(name, *effective.plain([before.get(name), after.get(name)]))
        for name in {**before, **after}
        if _comparable(name, before.get(name)) != _comparable(name, after.get(name))
    )


def _comparable(name: str, value: Any) -> Any:
    """Return equal values for lists of the same items, if their order has no meaning."""
    if isinstance(value, dict):
        return {key: _comparable(key, below) for key, below in value.items()}
    if name.endswith("waits"):
        return value
    return frozenset(value) if isinstance(value, list) else frozenset([value])
