"""The promises, checked against what really happened in a history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256

from tests.model.world import TERMS, Sent, Source, World
from tests.support.matching import matched


def credit(requests: int) -> float:
    """The time for which acknowledgements count after the last of so many requests."""
    waits = (TERMS.ebaas.wait(made) or 0.0 for made in range(requests))
    return 2 * max(waits, default=0.0) + TERMS.grace


@dataclass(frozen=True, slots=True)
class Found:
    broken: list[str]
    duplicates: dict[str, int]


def violations(world: World) -> Found:
    broken: list[str] = []
    duplicates: Counter[str] = Counter()
    for body in {source.event.body for source in world.sources}:
        group = _Group(world, body)
        checks = (group.false_answers, group.stale_answers, group.lost_optionals,
                  group.lost_records, group.new_names, group.false_alarms, group.early_deaths,
                  group.unsaid, group.too_eager)  # fmt: skip
        broken += [each for check in checks for each in check()]
        causes = sorted(group.causes) or ["none"]
        for target, count in group.duplicates().items():
            duplicates["/".join(causes)] += count
            if not group.causes:
                broken.append(f"{target} saw {body!r} {count} times too often for no cause")
    broken += unsettled(world)
    broken += regained(world)
    return Found(broken, dict(duplicates))


def unsettled(world: World) -> list[str]:
    query = "SELECT event_id, stage FROM events WHERE stage = 'open'"
    broken = [f"{row} is open for ever" for row in world.connection.execute(query)]
    query = "SELECT target, state FROM deliveries WHERE state IN ('awaiting', 'queued')"
    return broken + [f"{row} for ever" for row in world.connection.execute(query)]


def regained(world: World) -> list[str]:
    """Credit that was spent stays spent."""
    found = world.connection.execute("SELECT event_id FROM regained")
    return [f"{event_id} has its credit back" for (event_id,) in found]


class _Group:
    """The events of one body: to a router, and to its targets, they are all the same."""

    def __init__(self, world: World, body: bytes) -> None:
        self.world = world
        self.body = body
        self.sources = [s for s in world.sources if s.event.body == body]
        self.sent = [s for s in world.sent if s.source.event.body == body]
        self.answers = [a for a in world.answers if a.source.event.body == body]
        self.causes = {cause for concerned, cause in world.causes if concerned == body}
        if len([s for s in self.sources if s.arrived is not None]) > 1:
            self._note_twins()

    def _note_twins(self) -> None:
        """Events that are under way together are one to the router, or two too many."""
        for one in self.sources:
            for other in self.sources:
                if one is not other and self._together(one, other):
                    self.causes.add("overlap")

    def _together(self, one: Source, other: Source) -> bool:
        if one.arrived is None or other.arrived is None:
            return False
        return one.arrived <= other.arrived <= one.last_contact + 200.0

    def acknowledged(self, target: str) -> list[Sent]:
        return [s for s in self.sent if s.target == target and s.acknowledged]

    def rows(self, target: str, *states: str) -> int:
        query = (
            "SELECT count(*) FROM deliveries JOIN events USING (seq) WHERE digest = ? "
            f"AND target = ? AND state IN ({', '.join('?' * len(states))})"
        )
        values = (sha256(self.body).digest(), target, *states)
        (count,) = self.world.connection.execute(query, values).fetchone()
        return int(count)

    def dead(self, where: str = "true") -> list[tuple[str, str]]:
        """Return the events and targets of its dead letters."""
        query = (
            "SELECT event_id, target FROM deliveries JOIN events USING (seq) WHERE digest = ? "
            f"AND state = 'dead' AND {where}"
        )
        return self.world.connection.execute(query, (sha256(self.body).digest(),)).fetchall()

    def false_answers(self) -> list[str]:
        """A `000` without an acknowledgement of its own from every required target."""
        return [
            f"{target} acknowledged {self.body!r} {len(self.acknowledged(target))} times for "
            f"{count} 000s"
            for target, count in _counts(a.required for a in self.answers).items()
            if len(self.acknowledged(target)) < count
        ]

    def stale_answers(self) -> list[str]:
        """A `000` by an acknowledgement for an event that was over before this one came."""
        if self.body in self.world.unknowable:
            return []
        broken = []
        answered = [s for s in self.sources if s.answered]
        for target in self._always_required():
            if not matched(answered, self.acknowledged(target), self._may_stand):
                broken.append(f"a 000 for {self.body!r} stands on an old answer of {target}")  # noqa: PERF401 - the conditions read better one by one
        return broken

    def _may_stand(self, source: Source, sent: Sent) -> bool:
        assert source.arrived is not None
        if sent.began >= source.arrived:
            return True
        # An event whose caller fell silent before its 000: nobody can tell it from this one.
        silent = sent.source
        requests = sum(each.requests for each in self.sources if each is not source)
        over = silent.last_contact + credit(requests) + 1.0
        return not silent.answered and source.arrived <= over

    def _always_required(self) -> set[str]:
        sides = [answer.required for answer in self.answers]
        return set(frozenset.intersection(*sides)) if sides else set()

    def lost_optionals(self) -> list[str]:
        """An event answered `000` has its optional deliveries done, or dead for a person to see."""
        broken = []
        for target, count in _counts(a.optional for a in self.answers).items():
            there = len(self.acknowledged(target)) + self.rows(target, "dead")
            if self.world.weather.changes:
                there += self.rows(target, "superseded")
            if there < count:
                broken.append(f"{target} was promised {self.body!r} {count} times, got {there}")
        return broken

    def lost_records(self) -> list[str]:
        """A record ends as acknowledged, superseded or a dead letter.

        An event whose caller fell silent may have been taken for another one's retry.
        """
        kept = [s for s in self.sources if s in self.world.recorded]
        if not kept or self.world.weather.changes:
            return []
        broken = []
        for target in sorted(self.world.required):
            there = len(self.acknowledged(target)) + self.rows(target, "superseded", "dead")
            needed = max(1, sum(source.answered for source in kept))
            if there < needed:
                broken.append(f"{target}: {needed} of {self.body!r} were recorded, {there} left")
        return broken

    def false_alarms(self) -> list[str]:
        """An acknowledged event leaves no dead letter, or one that says so."""
        if self.causes - {"crash", "expired", "late", "store"} or {"crash", "store"} <= self.causes:
            return []
        if not all(source.answered for source in self.sources):
            return []
        # A clock that jumps ahead ends records before their time.
        if self.world.weather.steps:
            return []
        return [
            f"{target} has a dead letter of {self.body!r}, which it has acknowledged"
            for _, target in self.dead("acknowledged_later_at IS NULL")
            if target in self._always_required()
        ]

    def unsaid(self) -> list[str]:
        """A dead letter whose acknowledgement reached a router that lived on."""
        if "crash" in self.causes:
            return []
        output = {(sent.event_id, sent.target) for sent in self.sent if sent.acknowledged}
        return [
            f"{target} has acknowledged {of}, a dead letter"
            for of, target in self.dead("acknowledged_later_at IS NULL")
            if (of, target) in output
        ]

    def early_deaths(self) -> list[str]:
        """An attempt that the router itself holds back costs no retry: an optional delivery is
        given up only once its target has had so many attempts."""
        if self.world.weather.changes:
            return []
        return [
            f"{target} was given up after {len(sent)} attempts for {event_id}"
            for event_id, target in self.dead()
            if target in self.world.optional
            for sent in [[s for s in self.sent if (s.event_id, s.target) == (event_id, target)]]
            if len(sent) < TERMS.queue.retries
        ]

    def too_eager(self) -> list[str]:
        """Recovery sends what its target refuses at most once for each attempt by schedule."""
        weather = self.world.weather
        if self.causes or weather.changes or weather.shut or weather.forgets:
            return []
        sent = Counter((s.event_id, s.target, s.cause == "recovery") for s in self.sent)
        return [
            f"{target} was recovered {count} times for {event_id}"
            for (event_id, target, recovered), count in sent.items()
            if recovered and count > sent[event_id, target, False]
        ]

    def new_names(self) -> list[str]:
        """Without faults, all attempts for an event have one id."""
        ids = {sent.event_id for sent in self.sent}
        if self.causes or len(ids) <= len(self.sources):
            return []
        return [f"{self.body!r} went by {len(ids)} ids"]

    def duplicates(self) -> dict[str, int]:
        """The number of duplicates at each target."""
        came = sum(source.arrived is not None for source in self.sources)
        acted = Counter(sent.target for sent in self.sent if sent.acted)
        return {target: count - came for target, count in acted.items() if count > came}


def _counts(sides: object) -> Counter[str]:
    return Counter(name for side in sides for name in side)  # type: ignore[attr-defined]
