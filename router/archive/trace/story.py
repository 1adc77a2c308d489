"""The story of one event, and what is needed to send archived events again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from router.archive.reading import Damage, Scan
from router.archive.trace.lines import (
    AtTarget,
    CallerInfo,
    EventLine,
    LateAttempt,
    happening,
)
from router.archive.trace.question import Question
from router.contract.replies import is_sane
from router.model.errors import Refused
from router.model.event import SUCCESS, OutboundEvent
from router.store.admin import Action, Dossier, Entry, ReplayPlace, Resend
from router.store.protocol import Pause, Record, Stage, State, Tried

if TYPE_CHECKING:
    from router.contract.intake import Intake


#: How far the line of a retry, and what the store has of it, may be apart, in seconds: retries are
#: counted anew by a replay.
_SAME = 30.0


@dataclass(frozen=True, slots=True)
class Acted:
    """What a person did with deliveries of the event; the last of each is known."""

    at: float
    action: Action
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """A failed attempt that the store has and no line tells of."""

    at: float
    target: str
    tried: Tried

    @property
    def each(self) -> AtTarget:
        a, ms = self.tried.attempt, round(self.tried.attempt.seconds * 1000, 1)
        return AtTarget(self.target, "", a.reason, "", ms, a.status, a.code, a.msg, a.detail)


Step = CallerInfo | LateAttempt | Acted | Missed


@dataclass(frozen=True, slots=True)
class Next:
    """What will happen, unless something else does before."""

    #: `request`: EBaaS's; `given_up`: by EBaaS; `retry`: the router's own.
    what: Literal["request", "given_up", "retry"]
    at: float
    #: Which request or retry that will be.
    number: int = 0
    #: Of a retry; whether a pause is in force, without which it would come sooner; and whether one
    #: is in flight, which has to have ended by then.
    target: str = ""
    is_paused: bool = False
    is_in_flight: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """It has a first step, or is in the store, or both."""

    event_id: str
    event_key: str
    steps: tuple[Step, ...]
    #: How its deliveries stand in the store; none where it is not there (any more).
    entries: tuple[Entry, ...]
    stage: Stage | None
    next: tuple[Next, ...]
    request_id: str
    trace_id: str
    #: How the SHA-256 of its body begins, or all of it.
    digest: str
    bytes: int | None
    changes: tuple[str, ...]
    #: As it came; None where nobody has kept it.
    body: str | None


def story(
    happenings: Sequence[EventLine], dossier: Dossier | None, pauses: Sequence[Pause] = ()
) -> Story:
    """`happenings` are all of one event, the oldest first; the dossier is what the store has, and
    the pauses are those in force."""
    ends = {pause.target: pause.until for pause in pauses}
    told = [each for each in happenings if isinstance(each, CallerInfo)]
    steps: list[Step] = [*happenings]
    if dossier is not None:
        steps += [*_acted(dossier), *_missed(dossier, happenings)]
    steps.sort(key=lambda step: step.at)
    first = told[0] if told else None
    letter = dossier.letter if dossier else None
    bodies = [each.body for each in told if each.body is not None]
    if letter is not None:
        bodies.append(letter.event.body.decode("utf-8", "replace"))
    keys = [each.event_key for each in happenings if each.event_key]
    return Story(
        event_id=dossier.record.event_id if dossier else happenings[0].event_id,
        event_key=keys[0] if keys else letter.event.event_key if letter else "",
        steps=tuple(steps),
        entries=dossier.entries if dossier else (),
        stage=dossier.record.stage if dossier else None,
        next=tuple(_next(dossier.record, dossier.entries, ends)) if dossier else (),
        request_id=first.request_id if first else letter.request_id if letter else "",
        trace_id=first.trace_id if first else "",
        digest=letter.digest.hex() if letter else first.digest if first else "",
        bytes=len(letter.event.body) if letter else first.bytes if first else None,
        changes=first.changes if first else (),
        body=bodies[0] if bodies else None,
    )


def _acted(dossier: Dossier) -> Iterator[Acted]:
    """Each action once, with the deliveries that it was the last one on."""
    by_action: dict[str, list[Entry]] = {}
    for entry in dossier.entries:
        if entry.action is not None:
            by_action.setdefault(entry.action.action_id, []).append(entry)
    for entries in by_action.values():
        action = entries[0].action
        assert action is not None
        yield Acted(action.at, action, tuple(entry.row.target for entry in entries))


def _missed(dossier: Dossier, happenings: Sequence[EventLine]) -> Iterator[Missed]:
    for target, attempts in dossier.attempts.items():
        for tried in attempts:
            if not any(_tells_of(each, target, tried) for each in happenings):
                yield Missed(tried.attempt.at, target, tried)


def _tells_of(each: EventLine, target: str, tried: Tried) -> bool:
    if isinstance(each, CallerInfo):
        return each.number == tried.request and any(one.target == target for one in each.targets)
    same = each.tried.target == target and each.retry == tried.retry
    return same and abs(each.at - tried.attempt.at) < _SAME


def _next(record: Record, entries: Sequence[Entry], pauses: Mapping[str, float]) -> Iterator[Next]:
    if record.stage is Stage.OPEN:
        yield Next("request", record.due_at, record.requests + 1)
        yield Next("given_up", record.ends_at)
    for entry in entries:
        if entry.row.state is State.QUEUED:
            target, due = entry.row.target, entry.row.due_at
            ends = pauses.get(target)
            at, number = max(due, ends or 0.0), entry.row.retries + 1
            yield Next("retry", at, number, target, ends is not None, entry.is_leased)


def events(
    folder: Path,
    question: Question,
    progress: Callable[[str], None],
    tell: Callable[[str], None],
    damage: Damage,
    concerns: Callable[[CallerInfo], bool] = lambda told: True,
) -> Iterator[CallerInfo]:
    """The first request of each event that fits and `concerns` the caller, the oldest first; of one
    time, in the order of their ids. `damage` counts what can't be read and is left out. Raises
    OSError."""
    needles, since, until = question.needles, question.since, question.until
    scan = Scan(folder, needles, since, until, progress, tell, oldest_first=True, damage=damage)
    known: set[str] = set()
    group: list[CallerInfo] = []
    for line in scan:
        told = _told(line, question, damage)
        if told is None or not concerns(told):
            continue
        if group and told.at != group[0].at:
            yield from _new(group, known)
            group = []
        group.append(told)
    yield from _new(group, known)


def _told(line: bytes, question: Question, damage: Damage) -> CallerInfo | None:
    if not question.may_fit(line):
        return None
    try:
        each = happening(line)
    except ValueError:
        damage.lines += 1
        return None
    return each if isinstance(each, CallerInfo) and question.fits(each) else None


def _new(group: list[CallerInfo], known: set[str]) -> Iterator[CallerInfo]:
    """Those of one time that have not been told before."""
    for told in sorted(group, key=lambda told: (told.event_id, told.request_id)):
        name = told.event_id or told.body or told.request_id
        if name not in known:
            known.add(name)
            yield told


@dataclass(frozen=True, slots=True)
class Again:
    """A replay, which may have begun earlier."""

    target: str
    #: Whose key fits, and from when to when.
    question: Question
    #: Those that the target was in no plan of, in place of those that it was.
    backfill: bool = False
    #: What has been taken before.
    after: ReplayPlace | None = None

    def had_it(self, told: CallerInfo) -> bool:
        """Whether the target was in the plan, as the line has it."""
        return any(each.target == self.target for each in told.targets)

    def is_unknown(self, told: CallerInfo) -> bool:
        """Whether the line has not all of its targets, and ours is none of the rest."""
        return "targets" in told.cut and not self.had_it(told)

    def concerns(self, told: CallerInfo) -> bool:
        """Whether the line's request decides about a replay: of a plan that has changed between
        two requests of an event, one that had the target."""
        return self.backfill or self.had_it(told) or self.is_unknown(told)

    def choose(
        self,
        folder: Path,
        progress: Callable[[str], None],
        tell: Callable[[str], None],
        damage: Damage,
    ) -> Iterator[CallerInfo]:
        """Each event once, in order of time; those too of which `is_unknown`. Raises OSError."""
        for told in events(folder, self.question, progress, tell, damage, self.concerns):
            if self.backfill and self.had_it(told):
                continue
            if not (told.event_id or told.code == SUCCESS):
                continue
            if self.after is None or place_of(told) > self.after:
                yield told


def place_of(told: CallerInfo) -> ReplayPlace:
    return ReplayPlace(told.at, id_of(told))


def id_of(told: CallerInfo) -> str:
    """Its `webhook-id`; one that no route has matched gets one now, always the same."""
    if told.event_id:
        return told.event_id
    name = hashlib.sha256(f"{told.at} {told.request_id}".encode()).digest()
    return str(UUID(bytes=name[:16], version=4))


def resend(
    *, at: float, event_id: str, request_id: str, number: int | None, hops: int, body: str
) -> Resend | None:
    """None for a line that the router can't have written: it has no event, ids that would be
    headers of their own, or hops that are no small number. The key is the body's, for the line's
    may be cut."""
    if not (all(map(_is_header, (event_id, request_id))) and 0 <= hops < 100):
        return None
    try:
        event = _intake().read(body.encode())
    except Refused:
        return None
    record = Record(event_id, Stage.CLOSED, at, number or 1, at, at, at, at, credit_revoked=True)
    return Resend(record, OutboundEvent.of(event, request_id, hops=hops))


def _is_header(text: str) -> bool:
    return is_sane(text.encode("utf-8", "replace"))


@cache
def _intake() -> Intake:
    """By the contract alone: an operator's schema may be another today."""
    # They bring in the validators, which only those wait for who replay.
    from router.contract.intake import Intake

    return Intake.of(None)
