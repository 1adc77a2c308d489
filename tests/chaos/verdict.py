"""The promises, checked against what callers and targets have seen and the store has kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos.causes import Group
from tests.chaos.history import Request, Seen, Source
from tests.chaos.plan import EBAAS, GRACE, TIMEOUTS, Blow, Manner
from tests.chaos.run import Played


@dataclass(frozen=True, slots=True)
class Broken:
    """A broken promise."""

    what: str
    #: The event's body; None where it concerns none.
    body: int | None = None


@dataclass(slots=True)
class Verdict:
    played: Played
    broken: list[Broken] = field(default_factory=list)
    #: By cause.
    duplicates: Counter[str] = field(default_factory=Counter)


def judge(played: Played) -> Verdict:
    verdict = Verdict(played)
    for body in sorted({source.body for source in played.history.sources}):
        group = Group(played.history, body, played.plan.nodes)
        if group.sources:
            broken = _Check(played, group).all(verdict.duplicates)
            verdict.broken += [Broken(what, body) for what in broken]
    verdict.broken += map(Broken, _unsettled(played))
    verdict.broken += map(Broken, _faults(played))
    verdict.broken += [Broken(what, played.last.body) for what in _recovered(played)]
    return verdict


class _Check:
    """The promises about the events of one body."""

    def __init__(self, played: Played, group: Group) -> None:
        self._history = played.history
        self._kept = played.kept
        self._group = group
        self._answered = [r for r in group.requests.values() if r.code == "000"]

    def all(self, duplicates: Counter[str]) -> Iterator[str]:
        yield from self._false_answers()
        yield from self._stale_answers()
        yield from self._lost_optionals()
        yield from self._disappeared()
        yield from self._no_reply()
        for again, cause in self._group.again():
            duplicates[cause or "unexplained"] += 1
            if cause is None:
                yield f"{again.target} saw it again in {again.request}, for no cause"

    def _false_answers(self) -> Iterator[str]:
        """Each `000` has an earlier acknowledgement of its own from every required target."""
        answers = sorted(self._answered, key=lambda request: request.ended)
        for target in TIMEOUTS:
            backed = [r for r in answers if target in self._history.required(r)]
            for count, answer in enumerate(backed, 1):
                own = [s for s in self._group.acknowledged(target) if s.began < answer.ended]
                if len(own) < count:
                    yield f"{answer.name} is 000 number {count}, {target} had given {len(own)}"

    def _stale_answers(self) -> Iterator[str]:
        """No acknowledgement is for an event that was over before this one came."""
        answered = [s for s in self._group.sources if s.answered]
        sides = [self._history.required(request) for request in self._answered]
        for target in frozenset.intersection(*sides) if sides else ():
            if not matched(answered, self._group.acknowledged(target), self._may_stand):
                yield f"a 000 stands on an old acknowledgement of {target}"

    def _may_stand(self, source: Source, seen: Seen) -> bool:
        assert source.arrived is not None
        if seen.began >= source.arrived:
            return True
        # An event whose caller fell silent before its 000, or got that from a node that could not
        # ask the store, and has not made it good yet: nobody else can tell it from this one.
        earlier = self._group.requests[seen.request].source
        unknown = not earlier.answered or self._history.answered_blindly(earlier)
        credit = 2 * max(EBAAS.waits) + GRACE + 1.0
        return unknown and source.arrived <= earlier.last_contact + credit

    def _lost_optionals(self) -> Iterator[str]:
        """An event that got its `000` has its optional deliveries done, or kept for a person to
        see."""
        promised = Counter(t for r in self._answered for t in self._history.optional(r))
        for target, count in promised.items():
            there = self._there(target, "dead", "superseded")
            if there < count:
                yield f"{target} was promised it {count} times, and {there} are done or kept"

    def _disappeared(self) -> Iterator[str]:
        """An accepted event is acknowledged, superseded or a dead letter in the end, for each
        required target; events that a router cannot tell apart count once."""
        accepted = [source for source in self._group.sources if self._history.accepted(source)]
        if not accepted:
            return
        needed = max(1, sum(source.answered for source in accepted))
        for target in self._history.always_required(accepted):
            there = self._there(target, "dead", "superseded")
            if there < needed:
                yield f"{target} was owed it {needed} times, and {there} are done or kept"

    def _there(self, target: str, *states: str) -> int:
        rows = [row for row in self._kept.of(self._group.body) if row.target == target]
        kept = sum(row.state in states for row in rows)
        return len(self._group.acknowledged(target)) + kept

    def _no_reply(self) -> Iterator[str]:
        """Every waiting caller has a reply, unless the router was killed."""
        for request in self._group.requests.values():
            if request.manner is Manner.WAITS and request.left:
                yield f"{request.name} waited in vain for its reply"
            if request.broken and not self._killed_in(request):
                yield f"{request.name} lost its connection, and nobody had killed the router"

    def _killed_in(self, request: Request) -> bool:
        kills = (s for s in self._history.struck if s.blow is not Blow.TERM)
        return any(
            request.node == kill.node and request.began <= kill.over and kill.at <= request.ended
            for kill in kills
        )


def matched(
    sources: Sequence[Source], seen: Sequence[Seen], may: Callable[[Source, Seen], bool]
) -> bool:
    """Return whether each source can have one of them for its own (Kuhn's algorithm)."""
    owner: dict[int, Source] = {}

    def place(source: Source, tried: set[int]) -> bool:
        for number, each in enumerate(seen):
            if number not in tried and may(source, each):
                tried.add(number)
                if number not in owner or place(owner[number], tried):
                    owner[number] = source
                    return True
        return False

    return all(place(source, set()) for source in sources)


def _unsettled(played: Played) -> Iterator[str]:
    for event_id in played.kept.open_events:
        yield f"{event_id} is open for ever"
    for row in played.kept.rows:
        if row.state in ("awaiting", "queued"):
            yield f"{row.event_id} is {row.state} at {row.target} for ever"


def _faults(played: Played) -> Iterator[str]:
    yield from played.history.faults
    for line in played.history.lines:
        if line.fields["happening"] == "fault":
            yield f"the router's own fault: {line.fields}"


def _recovered(played: Played) -> Iterator[str]:
    """Once all is calm an event gets its `000` at once, and every target sees it once."""
    last = played.last
    if [request.code for request in last.requests] != ["000"]:
        yield f"after all was calm an event got {[r.code for r in last.requests]}"
    group = Group(played.history, last.body, played.plan.nodes)
    table = played.history.tables[-1]
    for target in table.required | table.optional:
        if len(group.acted(target)) != 1:
            yield f"after all was calm {target} saw an event {len(group.acted(target))} times"
