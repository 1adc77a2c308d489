"""Events of the archive to be delivered again, in order, and what the store queues for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING
from uuid import UUID

from router.archive.reading import Question, Sources
from router.archive.trace.lines import CallerInfo
from router.contract.replies import is_sane
from router.model.errors import Refused
from router.model.event import SUCCESS, OutboundEvent
from router.store.admin import ReplayPlace, Resend
from router.store.protocol import Record, Stage

if TYPE_CHECKING:
    from router.contract.intake import Intake


def events(
    sources: Sources,
    question: Question,
    concerns: Callable[[CallerInfo], bool] = lambda request: True,
) -> Iterator[CallerInfo]:
    """Yield the first request of each event that fits the question and `concerns` the caller, in
    the order of time and, at the same time, of ids. Raises OSError."""
    known: set[str] = set()
    requests = (
        line
        for line in sources.look(question, oldest_first=True)
        if isinstance(line, CallerInfo) and line.view["what"] != "refused" and concerns(line)
    )
    for _, group in groupby(requests, key=lambda request: request.at):
        for request in sorted(
            group, key=lambda request: (request.event_id, request.view["request_id"])
        ):
            name = request.event_id or request.body or request.view["request_id"]
            if name not in known:
                known.add(name)
                yield request


@dataclass(frozen=True, slots=True)
class Again:
    """A replay, possibly resumed."""

    target: str
    #: The keys and the span of time.
    question: Question
    #: Replay the events whose plan did not have the target, instead of those whose plan did.
    backfill: bool = False
    #: The last event taken before.
    after: ReplayPlace | None = None

    def had_it(self, request: CallerInfo) -> bool:
        """Return whether the line says that the target was in the plan."""
        return any(result["target"] == self.target for result in request.results)

    def is_unknown(self, request: CallerInfo) -> bool:
        """Return whether the line lacks some of its targets, and ours may be one of them."""
        return "targets" in request.cut and not self.had_it(request)

    def concerns(self, request: CallerInfo) -> bool:
        """Return whether the replay depends on this request. If an event's plan changed between
        two requests, it depends on one that had the target."""
        return self.backfill or self.had_it(request) or self.is_unknown(request)

    def choose(self, sources: Sources) -> Iterator[CallerInfo]:
        """Yield each event once, in the order of time, including those that are `is_unknown`.
        Raises OSError."""
        for request in events(sources, self.question, self.concerns):
            if self.backfill and self.had_it(request):
                continue
            if request.view["what"] == "unmatched" and request.view["code"] != SUCCESS:
                continue
            if self.after is None or ReplayPlace(request.at, id_of(request)) > self.after:
                yield request


def id_of(request: CallerInfo) -> str:
    """Return the `webhook-id`. An event that no route matched gets one now, always the same."""
    if request.event_id:
        return request.event_id
    name = hashlib.sha256(f"{request.at} {request.view['request_id']}".encode()).digest()
    return str(UUID(bytes=name[:16], version=4))


def resend(
    *, at: float, event_id: str, request_id: str, number: int | None, hops: int, body: str
) -> Resend | None:
    """Return the queue's entry for an event; None for a line that the router cannot have written:
    the body is not an event, an id is not a valid header, or the hops are out of range.

    The event's key is read from its body, because the line's may be cut."""
    are_sane = all(is_sane(each.encode("utf-8", "replace")) for each in (event_id, request_id))
    if not (are_sane and 0 <= hops < 100):
        return None
    try:
        event = _intake().read(body.encode())
    except Refused:
        return None
    record = Record(event_id, Stage.CLOSED, at, number or 1, at, at, at, at, credit_revoked=True)
    return Resend(record, OutboundEvent.of(event, request_id, hops=hops))


@cache
def _intake() -> Intake:
    """Check by the contract alone, because the operator's schema may have changed since."""
    # Imported late: the validators take time to load, and only a replay needs them.
    from router.contract.intake import Intake

    return Intake.of(None)
