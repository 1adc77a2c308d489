"""The cause of each delivery that a target has seen again. For each earlier time that the target
had acted on it there must be a reason why the router did not know of that. The words are those of
`router.delivery.rules.Cause`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from router.delivery.rules import Cause
from tests.chaos.history import History, Request, Seen
from tests.chaos.plan import EBAAS, ENDS, GRACE, TIMEOUTS, Blow

#: How much later than its end the router may tell of an attempt, in seconds: with the last one of
#: its request.
_LOGGED_WITHIN = 3.0


class Group:
    """The events of one body, with everything seen of them."""

    def __init__(self, history: History, body: int, processes: int) -> None:
        self.history = history
        self.body = body
        self.processes = processes
        self.sources = [s for s in history.sources if s.body == body and s.arrived is not None]
        self.seen = sorted((s for s in history.seen if s.body == body), key=lambda s: s.began)
        self.margin = history.margin
        ids = {seen.event_id for seen in self.seen}
        #: When the router said that an attempt had timed out, by event id and target.
        self.timed_out = [
            (line.at, attempt)
            for line in history.lines
            for attempt in line.timed_out
            if attempt[0] in ids
        ]
        self.requests = {request.name: request for s in self.sources for request in s.requests}

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
            return self._renamed(*sorted(map(self._first, (earlier, again)), key=_began))
        return (
            self._elsewhere(earlier, again)
            or self._late(earlier)
            or self._died(earlier)
            or self._slow(earlier, again)
        )

    def _first(self, seen: Seen) -> Seen:
        """Return the first request seen with that id."""
        return next(each for each in self.seen if each.event_id == seen.event_id)

    def _renamed(self, old: Seen, new: Seen) -> Cause | None:
        """Return why the caller's one event was taken for two, from the first request seen of
        each."""
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
        slow = earlier.ended - earlier.began > TIMEOUTS[earlier.target] - self.margin
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
        credit = 2 * EBAAS.waits[0] + GRACE - self.margin
        for request in reached:
            last = self._last_recorded([r for r in reached if r.ended <= request.began])
            if last and min(request.ended, new.began) - last.ended > credit:
                return Cause.EXPIRED
        return Cause.EXPIRED if new.began - reached[0].began > ENDS - self.margin else None

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


def _began(seen: Seen) -> float:
    return seen.began
