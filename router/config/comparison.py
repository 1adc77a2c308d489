"""Whose plan differs between two configurations, grouped by what changes for it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from router.config.loading import Config
from router.model.event import Event
from router.routing.table import Plan, Role, Route

#: The most keys that a group remembers; of further ones only the events are counted.
MAX_KEYS = 1_000

#: How many events are remembered to have no change, so that each is looked up once.
_MAX_SEEN = 100_000

#: What may happen to a target's role, the most dangerous first.
_DANGER: list[tuple[Role | None, Role | None]] = [
    ("required", "optional"),
    ("required", None),
    ("optional", None),
    ("optional", "required"),
    (None, "required"),
    (None, "optional"),
]


@dataclass(frozen=True, slots=True)
class Move:
    """A target that is not to both plans the same; None: it is not in the plan."""

    target: str
    before: Role | None
    after: Role | None

    @property
    def danger(self) -> int:
        """0 is the worst."""
        return _DANGER.index((self.before, self.after))

    @property
    def is_loss(self) -> bool:
        """Whether the target does not get the event any more, or nobody waits for it."""
        return self.before is not None and self.after != "required"


#: What becomes of an event: a route matches it, or `unmatched` says what its caller is told.
Fate = Literal["matched", "reject", "accept"]


@dataclass(frozen=True, slots=True)
class Change:
    """What changes for an event. Two events with the same change are in one group."""

    before: Fate
    after: Fate
    #: The worst first.
    moves: tuple[Move, ...]

    @property
    def newly_unmatched(self) -> bool:
        return self.before == "matched" != self.after

    @property
    def is_loss(self) -> bool:
        return self.newly_unmatched or any(move.is_loss for move in self.moves)

    @property
    def danger(self) -> int:
        """0 is the worst: no route matches any more. Then what happens to targets."""
        if self.newly_unmatched or not self.moves:
            return 0
        return 1 + self.moves[0].danger


@dataclass(slots=True)
class Group:
    """The events that have one change. It grows while events are added."""

    change: Change
    #: The routes that the first of them matches before and after.
    before: tuple[Route, ...]
    after: tuple[Route, ...]
    events: int = 0
    #: How many of the events have which key.
    keys: Counter[str] = field(default_factory=Counter)
    #: Whether there are more keys than are remembered.
    more_keys: bool = False

    def add(self, key: str, times: int) -> None:
        self.events += times
        if key in self.keys or len(self.keys) < MAX_KEYS:
            self.keys[key] += times
        else:
            self.more_keys = True


class Comparison:
    """Two configurations, and what differs for the events added so far."""

    def __init__(self, old: Config, new: Config) -> None:
        self._old = old
        self._new = new
        self._groups: dict[Change, Group] = {}
        #: The events whose plan stays.
        self._same: set[Event] = set()
        #: How many events were added.
        self.events = 0
        #: The routes, by name, that matched any of them, before or after.
        self.matched: set[str] = set()

    def add(self, event: Event, times: int = 1) -> None:
        """`times` events that are alike."""
        self.events += times
        if event in self._same:
            return
        before, after = self._old.table.match(event), self._new.table.match(event)
        self.matched.update(route.name for route in before.routes + after.routes)
        change = self._change(before, after)
        if change is None:
            self._remember(event)
            return
        fresh = Group(change, before.routes, after.routes)
        self._groups.setdefault(change, fresh).add(event.event_key, times)

    @property
    def changed(self) -> int:
        """For how many events something differs."""
        return sum(group.events for group in self._groups.values())

    @property
    def newly_unmatched(self) -> int:
        return sum(g.events for g in self._groups.values() if g.change.newly_unmatched)

    def groups(self) -> list[Group]:
        """The most dangerous first, then the one with the most events."""
        return sorted(
            self._groups.values(),
            key=lambda group: (group.change.danger, -group.events, min(group.keys)),
        )

    def owner(self, target: str) -> str:
        """Who answers for a target: as the new configuration says, else as the old one did."""
        known = {**self._old.table.targets, **self._new.table.targets}.get(target)
        return known.owner if known else ""

    def moves(self) -> list[tuple[Move, int]]:
        """What happens to each target over all groups, and to how many events: the most dangerous
        first, then what most events have."""
        totals: Counter[Move] = Counter()
        for group in self._groups.values():
            totals.update(dict.fromkeys(group.change.moves, group.events))
        return sorted(totals.items(), key=lambda item: (item[0].danger, -item[1], item[0].target))

    def _change(self, before: Plan, after: Plan) -> Change | None:
        fates = _fate(before, self._old), _fate(after, self._new)
        old, new = before.roles, after.roles
        if fates[0] == fates[1] and old == new:
            return None
        names = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
        moves = [Move(name, old.get(name), new.get(name)) for name in names]
        moves.sort(key=lambda move: (move.danger, move.target))
        return Change(*fates, tuple(moves))

    def _remember(self, event: Event) -> None:
        if len(self._same) >= _MAX_SEEN:
            self._same.clear()
        self._same.add(event)


def _fate(plan: Plan, config: Config) -> Fate:
    return "matched" if plan.routes else config.unmatched
