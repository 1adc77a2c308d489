"""One event's story: all that happened in order of time, how it stands, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from router.archive.trace.happenings import AtTarget, EventLine, LateAttempt, ToldCaller
from router.store.attempts import Tried
from router.store.ops import Action, Dossier, Entry
from router.store.pauses import Pause
from router.store.promises import Record, Stage, State

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


Step = ToldCaller | LateAttempt | Acted | Missed


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
    told = [each for each in happenings if isinstance(each, ToldCaller)]
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
    if isinstance(each, ToldCaller):
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
