"""The promises, checked against what callers and targets have seen and the store has kept.

Each delivery that a target has seen again needs a cause: for each earlier time that the target had
acted on it, a reason why the router did not know. The words are those of `Cause`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from router.delivery.rules import Cause
from tests.chaos.history import Request, Seen, Source
from tests.chaos.plan import TIMEOUTS, Blow, Manner
from tests.chaos.run import Played
from tests.support.matching import matched

#: How much later than its end the router may log an attempt, in seconds: with the last attempt of
#: the request.
_LOGGED_WITHIN = 3.0


class Group:
    """The events of one body, with everything seen of them."""

    def __init__(self, played: Played, body: int) -> None:
        self.history = history = played.history
        self.processes = played.plan.nodes
        self._strict = played.plan.strict and not history.is_disturbed
        self._kept = played.kept.of(body)
        self.sources = [s for s in history.sources if s.body == body and s.arrived is not None]
        self.seen = sorted((s for s in history.seen if s.body == body), key=lambda s: s.began)
        self.margin = history.margin
        ids = {seen.event_id for seen in self.seen}
        #: The log lines about timed-out attempts: the time, and event id and target.
        self.timed_out = [
            (line.at, attempt)
            for line in history.lines
            for attempt in line.timed_out
            if attempt[0] in ids
        ]
        self.requests = {request.name: request for s in self.sources for request in s.requests}
        self._answered = [r for r in self.requests.values() if r.code == "000"]

    def reached(self) -> list[Request]:
        requests = (request for request in self.requests.values() if request.reached)
        return sorted(requests, key=lambda request: request.began)

    def acted(self, target: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.target == target and seen.acted]

    def acknowledged(self, target: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.target == target and seen.acknowledged]

    def again(self) -> Iterator[tuple[Seen, Cause | None]]:
        """Return the repeated deliveries and their causes: those beyond one for each event."""
        for target in TIMEOUTS:
            acted = self.acted(target)
            for number in range(len(self.sources), len(acted)):
                yield acted[number], self._cause(acted[number], acted[:number])

    def _cause(self, again: Seen, before: list[Seen]) -> Cause | None:
        """Return the cause for the last time before; None if the router must have known of one."""
        if len(self.sources) > 1:
            return Cause.OVERLAP
        causes = [self._forgotten(earlier, again) for earlier in before]
        return None if None in causes else causes[-1]

    def _forgotten(self, earlier: Seen, again: Seen) -> Cause | None:
        """Return why the router did not know at the later time that the target had acted before."""
        if earlier.event_id != again.event_id:
            return self._renamed(*sorted(map(self._first, (earlier, again)), key=lambda s: s.began))
        return (
            self._elsewhere(earlier, again)
            or self._late(earlier)
            or self._died(earlier)
            or self._slow(earlier, again)
        )

    def _first(self, seen: Seen) -> Seen:
        return next(each for each in self.seen if each.event_id == seen.event_id)

    def _renamed(self, old: Seen, new: Seen) -> Cause | None:
        """Return why one event was taken for two, from the first request seen of each."""
        return (
            self._unrecorded(old)
            or self._unread(old, new)
            or self._split(new)
            or self._expired(new)
            or self._slow(old, new)
        )

    def _unrecorded(self, old: Seen) -> Cause | None:
        """The router was killed before the first request was in the store."""
        request = self.requests[old.request]
        recorded = request.ended + (self.margin if request.left else 0.0)
        kills = (s for s in self.history.struck if s.blow is not Blow.TERM)
        died = any(request.began <= kill.over and kill.at <= recorded for kill in kills)
        return Cause.CRASH if died and not request.code else None

    def _elsewhere(self, earlier: Seen, again: Seen) -> Cause | None:
        """The earlier attempt, or its request, was still under way in another process."""
        if self.processes == 1 or not earlier.acknowledged:
            return None
        until = max(earlier.ended, self.requests[earlier.request].ended) + self.margin
        return Cause.OTHER_PROCESS if again.began <= until else None

    def _late(self, earlier: Seen) -> Cause | None:
        """The target acted, and its answer may not have reached the router in time. On a busy
        machine the router itself may have been slow, which only its log shows."""
        slow = (
            earlier.ended - earlier.began > self.history.times.timeout(earlier.target) - self.margin
        )
        attempt, until = (earlier.event_id, earlier.target), earlier.ended + _LOGGED_WITHIN
        logged = any(a == attempt and earlier.ended <= at <= until for at, a in self.timed_out)
        return Cause.LATE if slow or logged or not earlier.acknowledged else None

    def _died(self, earlier: Seen) -> Cause | None:
        """The router ended before it had made the acknowledgement durable."""
        request, durable = self.requests[earlier.request], earlier.ended
        if earlier.began <= request.ended:
            durable = max(durable, request.ended)
        for struck in self.history.struck:
            if earlier.began <= struck.over and struck.at <= durable + self.margin:
                return Cause.LATE if struck.blow is Blow.TERM else Cause.CRASH
        return None

    def _unread(self, old: Seen, new: Seen) -> Cause | None:
        """A request in between may have got its `000`, which its caller did not read."""
        for request in self.reached():
            unread = request.left or request.broken
            between = old.began <= request.ended and request.began < new.began
            if unread and between and self._may_be_answered(request):
                return Cause.CRASH if request.broken else Cause.REPLY_LOST
        return None

    def _may_be_answered(self, request: Request) -> bool:
        if request.code:
            return request.code == "000"
        by = request.ended + self.margin
        return all(
            any(seen.ended <= by for seen in self.acknowledged(target))
            for target in self.history.required(request)
        )

    def _split(self, new: Seen) -> Cause | None:
        """Two requests were under way together, each with its own deliveries."""
        for one, other in combinations(self.reached(), 2):
            held = one.ended + (self.margin if one.left else 0.0)
            if other.began <= min(held, new.began):
                return Cause.OVERLAP
        return None

    def _expired(self, new: Seen) -> Cause | None:
        """A retry came too late for the record's credit, or for the record itself."""
        reached = [request for request in self.reached() if request.began <= new.began]
        times = self.history.times
        for request in reached:
            last = self._last_recorded([r for r in reached if r.ended <= request.began])
            if last is None:
                continue
            credit = 2 * self.history.wait_after(last) + times.grace - self.margin
            if min(request.ended, new.began) - last.ended > credit:
                return Cause.EXPIRED
        return Cause.EXPIRED if new.began - reached[0].began > times.ends - self.margin else None

    def _last_recorded(self, requests: list[Request]) -> Request | None:
        """Return the last request that is certainly recorded; otherwise the first."""
        recorded = [request for request in requests if self.history.recorded(request)]
        return next(iter([*reversed(recorded), *requests]), None)

    def _slow(self, earlier: Seen, again: Seen) -> Cause | None:
        """The store was too slow, or was not asked."""
        known = self.history.store_failed(earlier.began, again.began)
        between = [r for r in self.reached() if earlier.began <= r.ended and r.began <= again.began]
        failed = any(r.code == "500" and not self.history.recorded(r) for r in between)
        return Cause.STORE if known or failed else None

    # The promises about the events of one body.

    def all_broken(self, duplicates: Counter[str]) -> Iterator[str]:
        yield from self._false_answers()
        yield from self._stale_answers()
        yield from self._lost_optionals()
        yield from self._disappeared()
        yield from self._no_reply()
        for again, cause in self.again():
            duplicates[cause or "unexplained"] += 1
            if cause is None or self._strict:
                why = cause or "no cause"
                yield f"{again.target} saw it again in {again.request} ({again.cause}): {why}"

    def _false_answers(self) -> Iterator[str]:
        """Each `000` has an earlier acknowledgement of its own from every required target."""
        answers = sorted(self._answered, key=lambda request: request.ended)
        for target in TIMEOUTS:
            backed = [r for r in answers if target in self.history.required(r)]
            for count, answer in enumerate(backed, 1):
                own = [s for s in self.acknowledged(target) if s.began < answer.ended]
                if len(own) < count:
                    yield f"{answer.name} is 000 number {count}, {target} had given {len(own)}"

    def _stale_answers(self) -> Iterator[str]:
        """No acknowledgement is for an event that was over before this one came."""
        answered = [s for s in self.sources if s.answered]
        sides = [self.history.required(request) for request in self._answered]
        for target in frozenset.intersection(*sides) if sides else ():
            if not matched(answered, self.acknowledged(target), self._may_stand):
                yield f"a 000 stands on an old acknowledgement of {target}"

    def _may_stand(self, source: Source, seen: Seen) -> bool:
        assert source.arrived is not None
        if seen.began >= source.arrived:
            return True
        # An event whose caller fell silent before its 000, or got that from a node that could not
        # ask the store, and has not made it good yet: nobody else can tell it from this one.
        earlier = self.requests[seen.request].source
        unknown = not earlier.answered or self.history.answered_blindly(earlier)
        times = self.history.times
        credit = 2 * max(times.ebaas.waits) + times.grace + 1.0
        return unknown and source.arrived <= earlier.last_contact + credit

    def _lost_optionals(self) -> Iterator[str]:
        """After a `000` optional deliveries are done, or kept for a person to see."""
        promised = Counter(t for r in self._answered for t in self.history.optional(r))
        for target, count in promised.items():
            there = self._there(target)
            if there < count:
                yield f"{target} was promised it {count} times, and {there} are done or kept"

    def _disappeared(self) -> Iterator[str]:
        """An accepted event is acknowledged, superseded or a dead letter in the end, for each
        required target; events that a router cannot tell apart count once."""
        accepted = [source for source in self.sources if self.history.accepted(source)]
        if not accepted:
            return
        needed = max(1, sum(source.answered for source in accepted))
        for target in self.history.always_required(accepted):
            there = self._there(target)
            if there < needed:
                yield f"{target} was owed it {needed} times, and {there} are done or kept"

    def _there(self, target: str) -> int:
        """Count acknowledgements, dead letters and superseded deliveries."""
        kept = [row.state for row in self._kept if row.target == target]
        return len(self.acknowledged(target)) + kept.count("dead") + kept.count("superseded")

    def _no_reply(self) -> Iterator[str]:
        """Every waiting caller has a reply, unless the router was killed."""
        for request in self.requests.values():
            if request.manner is Manner.WAITS and request.left:
                yield f"{request.name} waited in vain for its reply"
            if request.broken and not self._killed_in(request):
                yield f"{request.name} lost its connection, and nobody had killed the router"

    def _killed_in(self, request: Request) -> bool:
        kills = (s for s in self.history.struck if s.blow is not Blow.TERM)
        return any(
            request.node == kill.node and request.began <= kill.over and kill.at <= request.ended
            for kill in kills
        )


@dataclass(frozen=True, slots=True)
class Broken:
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
        group = Group(played, body)
        if group.sources:
            broken = group.all_broken(verdict.duplicates)
            verdict.broken += [Broken(what, body) for what in broken]
    verdict.broken += map(Broken, _unsettled(played))
    verdict.broken += map(Broken, _faults(played))
    verdict.broken += [Broken(what, played.last.body) for what in _recovered(played)]
    return verdict


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
    group = Group(played, last.body)
    table = played.history.tables[-1]
    for target in table.required | table.optional:
        if len(group.acted(target)) != 1:
            yield f"after all was calm {target} saw an event {len(group.acted(target))} times"
