"""Endpoints for refused callbacks: their faults, and a replay of those that would be accepted now.

EBaaS does not retry a replayed callback for the router's sake, so all of its targets, the required
ones too, are queued: the router retries them by their own schedules, and dead letters end them. The
record is open as long as EBaaS still retries the callback, which then finds what was delivered.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NotRequired, TypedDict

from router.archive.reading import Question
from router.archive.refused import RefusedAnswer, RefusedCallback, find_bodies, find_refused
from router.config.loading import Config
from router.contract.intake import Intake
from router.contract.schedule import Terms
from router.delivery import rules
from router.model.errors import Refused
from router.model.event import Event, OutboundEvent, new_id
from router.ops.api.endpoint import FLAG, MOMENT, PATTERN, TEXT, ApiCall, Param, endpoint, number
from router.ops.api.replay import ReplayStep
from router.ops.problems import Rejected
from router.store.admin import STEP, Action, Admin, Resend, Verb
from router.store.protocol import Record, Stage, StoreFull
from router.store.views import ActionView, action_view
from router.telemetry.log.lines import utc

#: The longest search, in seconds.
_TIMEOUT = 600.0

#: The most rows of an answer: the latest faults.
_MOST_FAULTS = 500

#: The number of ids of a search for bodies.
_IDS = 2000

NO_ROUTE = "no route matches"


class RefusedFault(TypedDict):
    """Callbacks with the same fault and key. A body is one callback, however often it came."""

    code: str
    #: The fault as the log has it.
    why: str
    #: As far as it can be read.
    event_key: str
    callbacks: int
    requests: int
    first: str
    last: str
    #: When EBaaS gives up the last of them; null if it has, and if no router runs.
    retried_until: str | None
    #: The id of the last of them, for `/events`.
    event_id: str
    #: In a preview: the fault now; `""` for callbacks that would be delivered.
    now: NotRequired[str]


class RefusedView(TypedDict):
    """Refused callbacks that were not accepted since."""

    #: The latest ones first.
    faults: list[RefusedFault]
    callbacks: int
    requests: int
    #: The number of others: EBaaS has sent them again and they were accepted; and callbacks older
    #: than the archive's events, of which nobody knows whether they were.
    accepted: int
    unknown: int
    #: There are more than are listed.
    more: bool
    #: Parts that could not be read; empty for none.
    damage: str


class RefusedPreview(RefusedView):
    """What a replay would do. Callbacks that an earlier replay has queued are not in it."""

    token: str
    action: ActionView
    #: The number of callbacks that would be delivered.
    number: int
    #: The number of callbacks that were queued before, by an earlier replay.
    replayed: int


@dataclass(slots=True)
class _Replay:
    """A replay that is under way."""

    action: Action
    #: The callbacks that are left.
    pending: list[RefusedCallback]
    #: One step at a time.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the router would do with a callback now."""

    #: None if it is refused.
    event: Event | None
    #: The targets that have not got it.
    targets: Sequence[str] = ()
    why: str = ""


_WHICH = (
    Param("match", "Callbacks whose key, as far as it can be read, matches", PATTERN, many=True),
    Param("since", "The last request is not older than this: a time, or a time ago", MOMENT),
    Param("until", "The last request is older than this", MOMENT),
)


@endpoint("GET", "/refused", params=_WHICH)
async def refused(call: ApiCall) -> RefusedView:
    """Callbacks that were answered 400, or 500 since no route matched, by fault and key; not for
    teams: a callback that matches no route is nobody's"""
    call.require_no_team()
    answer, terms = await _find(call, call.query), _terms(call)
    pairs = [(callback, "") for callback in answer["callbacks"]]
    return _view(answer, _faults(pairs, terms, is_preview=False))


@endpoint(
    "POST",
    "/refused/replay",
    may=("replay",),
    takes=(
        *_WHICH,
        Param("dry_run", "Preview the replay", FLAG),
        Param("token", "The token of a preview, to queue the next of its callbacks", TEXT),
        Param("most", "At most this many at once", number(STEP)),
    ),
)
async def replay_refused(call: ApiCall) -> RefusedPreview | ReplayStep:
    """Deliver refused callbacks that the schema and the routes accept now, each to a target at most
    once: first a preview, then step by step; not for teams"""
    call.require_no_team()
    if not call.parts.is_running:
        raise Rejected("nothing_sends")
    if call.body["token"] is not None:
        return await _step(call)
    if not call.body["dry_run"]:
        raise Rejected("preview_first")
    return await _preview(call)


async def _preview(call: ApiCall) -> RefusedPreview:
    who = call.holder.name or ""
    answer = await _find(call, call.body)
    verdicts = await _judge(call, answer["callbacks"])
    pairs = [(callback, verdicts[callback["event_id"]]) for callback in answer["callbacks"]]
    ready = [callback for callback, verdict in pairs if verdict.targets]
    left = [(callback, each.why) for callback, each in pairs if each.why or each.targets]
    async with call.parts.stored.question() as admin:
        action = Action(new_id(), Verb.REPLAY, who, _words(call.body), admin.now())
    return RefusedPreview(
        **_view(answer, _faults(left, _terms(call), is_preview=True)),
        token=call.parts.previews.put(who, _Replay(action, ready)),
        action=action_view(action),
        number=len(ready),
        replayed=len(pairs) - len(left),
    )


async def _step(call: ApiCall) -> ReplayStep:
    state = call.parts.previews.get(call.holder.name or "", call.body["token"], _Replay)
    async with state.turn:
        batch = state.pending[: call.body["most"] or STEP]
        verdicts = await _judge(call, batch)
        async with call.parts.stored.question() as admin:
            try:
                changed = await _queue(admin, state.action, batch, verdicts, call.view.config)
            except StoreFull:
                return ReplayStep(taken=0, changed=0, more=True, is_full=True)
        del state.pending[: len(batch)]
    return ReplayStep(taken=len(batch), changed=changed, more=bool(state.pending), is_full=False)


async def _queue(
    admin: Admin,
    action: Action,
    batch: Sequence[RefusedCallback],
    verdicts: Mapping[str, _Verdict],
    config: Config,
) -> int:
    """Queue callbacks for the targets that have not got them; return how many were queued. A
    delivery that the store has already stays as it is, so after a crash a replay may be repeated.
    Raises StoreFull if a target's share has no room, after which a part may be queued."""
    by_targets: dict[tuple[str, ...], list[Resend]] = {}
    for callback in batch:
        verdict = verdicts[callback["event_id"]]
        if verdict.event is not None and verdict.targets:
            letter = OutboundEvent.of(verdict.event, callback["request_id"])
            record = record_of(callback, config.terms, admin.now())
            events = by_targets.setdefault(tuple(verdict.targets), [])
            events.append(Resend(record, letter, once=True))
    changed = 0
    for targets, events in by_targets.items():
        numbers = []
        for target in targets:
            resent = await admin.resend(action, target, events)
            if resent.taken < len(events):
                raise StoreFull([target])
            numbers.append(resent.queued)
        changed += max(numbers)
    if changed:
        await admin.resend(action, targets[0], ())  # the action has no place to go on from
    return changed


def record_of(callback: RefusedCallback, terms: Terms, now: float) -> Record:
    """Return the record of a callback. While EBaaS retries it, the record is open: its next request
    finds what was delivered, and gets its `000` for it."""
    # Some of its requests may not be in the archive.
    due = bisect_right(terms.ebaas.due(), callback["last"] - callback["first"])
    requests = max(callback["requests"], 1 + due)
    first, last = callback["first"], callback["last"]
    seen = Record(callback["event_id"], Stage.OPEN, first, requests, last, last, last, last)
    record = rules.failed(seen, last, terms, credit_revoked=False)
    has_ended = record.ends_at <= now
    return replace(record, stage=Stage.ENDED, credit_revoked=True) if has_ended else record


async def _find(call: ApiCall, given: Mapping[str, Any]) -> RefusedAnswer:
    question = Question(keys=given["match"], since=given["since"], until=given["until"])
    terms = _terms(call)
    schedule = rules.ends_at(0.0, terms) if terms else 0.0
    work = partial(find_refused, question, schedule)
    answer = await call.parts.search.run(work, timeout=_TIMEOUT)
    if answer is None:
        raise Rejected("no_archive")
    return answer


def _terms(call: ApiCall) -> Terms | None:
    return call.view.config.terms if call.parts.is_running else None


async def _judge(call: ApiCall, callbacks: Sequence[RefusedCallback]) -> dict[str, _Verdict]:
    """Return by id what the router would do with callbacks now."""
    intake, config = call.parts.insight.intake, call.view.config
    by_id = {callback["event_id"]: callback for callback in callbacks}
    left = [callback["event_id"] for callback in callbacks if callback["is_whole"]]
    verdicts = {event_id: _Verdict(None, why="its body was not kept whole") for event_id in by_id}
    while left:
        ids = left[:_IDS]
        bodies = await call.parts.search.run(partial(find_bodies, ids), timeout=_TIMEOUT)
        verdicts |= await asyncio.to_thread(_verdicts, intake, config, bodies, by_id)
        # The answer has the first ones, as far as they are not too large together.
        last = max((ids.index(event_id) for event_id in bodies), default=len(ids) - 1)
        left = left[last + 1 :]
    return verdicts


def _verdicts(
    intake: Intake,
    config: Config,
    bodies: Mapping[str, str],
    callbacks: Mapping[str, RefusedCallback],
) -> dict[str, _Verdict]:
    verdicts = {}
    for event_id, body in bodies.items():
        try:
            event = intake.read(body.encode())
        except Refused as error:
            verdicts[event_id] = _Verdict(None, why=str(error))
            continue
        plan = config.table.match(event)
        targets = [target.name for target in plan.required + plan.optional]
        left = [name for name in targets if name not in callbacks[event_id]["had"]]
        verdicts[event_id] = _Verdict(event, left, "" if plan.routes else NO_ROUTE)
    return verdicts


def _view(answer: RefusedAnswer, faults: Sequence[RefusedFault]) -> RefusedView:
    return RefusedView(
        faults=[*faults[:_MOST_FAULTS]],
        callbacks=sum(fault["callbacks"] for fault in faults),
        requests=sum(fault["requests"] for fault in faults),
        accepted=answer["accepted"],
        unknown=answer["unknown"],
        more=answer["more"] or len(faults) > _MOST_FAULTS,
        damage=answer["damage"],
    )


def _faults(
    pairs: Iterable[tuple[RefusedCallback, str]], terms: Terms | None, *, is_preview: bool
) -> list[RefusedFault]:
    """Group callbacks, each with its fault now, by fault and key; the latest ones first."""
    groups: dict[tuple[str, ...], list[RefusedCallback]] = {}
    for callback, now in pairs:
        key = (now, callback["code"], callback["why"], callback["event_key"])
        groups.setdefault(key, []).append(callback)
    rows = sorted(groups.items(), key=lambda row: -max(each["last"] for each in row[1]))
    faults = []
    for (now, *_), several in rows:
        fault = _fault(several, terms)
        faults.append({**fault, "now": now} if is_preview else fault)
    return faults


def _fault(callbacks: Sequence[RefusedCallback], terms: Terms | None) -> RefusedFault:
    latest = max(callbacks, key=lambda callback: callback["last"])
    until = 0.0
    if terms is not None:
        until = max(rules.ends_at(callback["first"], terms) for callback in callbacks)
    return RefusedFault(
        code=latest["code"],
        why=latest["why"],
        event_key=latest["event_key"],
        callbacks=len(callbacks),
        requests=sum(callback["requests"] for callback in callbacks),
        first=utc(min(callback["first"] for callback in callbacks)),
        last=utc(latest["last"]),
        retried_until=utc(until) if until > time.time() else None,
        event_id=latest["event_id"],
    )


def _words(body: Mapping[str, Any]) -> str:
    """Return the selection as options."""
    words = ["archive", "--refused"]
    for glob in body["match"]:
        words += ["--match", glob.pattern]
    for name in ("since", "until"):
        if body[name] is not None:
            words += [f"--{name}", utc(body[name])]
    return shlex.join(words)
