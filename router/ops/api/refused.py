"""Endpoints for refused callbacks: their faults, and a replay of those that would be accepted now.

EBaaS does not retry what a person replays, so all targets of such a callback, the required ones
too, are queued: the router retries them by the queue's schedules, and dead letters end them. The
record is open as long as EBaaS still retries the callback, and finds there what was delivered.
"""

from __future__ import annotations

import asyncio
import shlex
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile

from router.archive.reading import Question
from router.archive.refused import (
    KEPT,
    NO_ROUTE,
    RefusedCallback,
    RefusedView,
    Retries,
    find_bodies,
    find_refused,
    refused_view,
)
from router.contract.schedule import Terms
from router.delivery import rules
from router.model.errors import Refused
from router.model.event import Event, OutboundEvent, new_id
from router.ops.api.endpoint import FLAG, MOMENT, PATTERN, TEXT, Param, endpoint, number
from router.ops.api.events import ReplayStep, which_words
from router.ops.api.view import ApiCall
from router.ops.problems import Rejected
from router.store.admin import STEP, Action, Admin, Resend, Verb
from router.store.protocol import Record, Stage
from router.store.views import ActionView, action_view
from router.telemetry.log.lines import utc

#: The longest search for a list and for a replay, in seconds.
_LIST_TIMEOUT, _TIMEOUT = 30.0, 600.0

#: The most bodies that are read at a time, and their bytes without the last one's.
_MOST_BODIES, _BODIES_BYTES = 1000, 4 * 1024 * 1024


class RefusedPreview(RefusedView):
    """The result that a replay would have."""

    token: str
    action: ActionView
    #: The number of callbacks that would be delivered.
    number: int
    #: The number of others that an earlier replay has queued for all of their targets.
    replayed: int


@dataclass(slots=True)
class _Replay:
    """A replay that is under way."""

    action: Action
    #: The callbacks that are left, and the bodies of the first of them.
    pending: Sequence[RefusedCallback]
    bodies: Mapping[str, str] = field(default_factory=dict)
    #: One step at a time.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The decision about a callback by the schema and the routes in force."""

    #: None if it would be refused.
    event: Event | None
    why: str = ""
    #: The targets that have not got it.
    targets: tuple[str, ...] = ()


_WHICH = (
    Param("match", "Callbacks whose key, as far as it can be read, matches", PATTERN, many=True),
    Param("since", "The last request is not older than this: a time, or a time ago", MOMENT),
    Param("until", "The last request is older than this", MOMENT),
)


@endpoint("GET", "/refused", params=_WHICH)
async def refused(call: ApiCall) -> RefusedView:
    """Callbacks that were answered 400, or 500 since no route matched, by fault and key; not for
    teams, since such a callback is nobody's"""
    call.require_no_team()
    question, retries = _question(call)
    work = partial(find_refused, question, retries)
    answer = await call.search_archive(work, _LIST_TIMEOUT)
    callbacks = [(callback, None) for callback in answer["callbacks"]]
    return await asyncio.to_thread(refused_view, answer, callbacks, retries)


@endpoint(
    "POST",
    "/refused/replay",
    may=("replay",),
    params=(
        *_WHICH,
        Param("dry_run", "Preview the replay", FLAG),
        Param("token", "The token of a preview, to queue the next of its callbacks", TEXT),
        Param("most", "At most this many at once", number(STEP)),
    ),
)
async def replay_refused(call: ApiCall) -> RefusedPreview | ReplayStep:
    """Deliver refused callbacks that the schema and the routes accept now, to each target at most
    once: first a preview, then step by step; not for teams"""
    call.require_no_team()
    if not call.parts.router:
        raise Rejected("nothing_sends")
    if call["token"] is not None:
        return await _step(call)
    if not call["dry_run"]:
        raise Rejected("preview_first")
    return await _preview(call)


async def _preview(call: ApiCall) -> RefusedPreview:
    who = call.who
    question, retries = _question(call)
    answer = await call.search_archive(partial(find_refused, question, retries), _TIMEOUT)
    verdicts: dict[str, _Verdict] = {}
    left: Sequence[RefusedCallback] = answer["callbacks"]
    while left:
        some = _some(left)
        verdicts |= await _judge(call, some, await _bodies(call, some))
        left = left[len(some) :]
    pairs = [(callback, verdicts[callback["event_id"]]) for callback in answer["callbacks"]]
    ready = [callback for callback, verdict in pairs if verdict.targets]
    shown = [(callback, each.why) for callback, each in pairs if each.why or each.targets]
    async with call.parts.stored.question() as admin:
        words = shlex.join(["archive", "--refused", *which_words(call.given, utc)])
        action = Action(new_id(), Verb.REPLAY, who, words, admin.now())
    view = await asyncio.to_thread(refused_view, answer, shown, retries)
    return RefusedPreview(
        **view,
        token=call.parts.previews.put(who, _Replay(action, ready)),
        action=action_view(action),
        number=len(ready),
        replayed=len(pairs) - len(shown),
    )


async def _step(call: ApiCall) -> ReplayStep:
    state = call.parts.previews.get(call.who, call["token"], _Replay)
    async with state.turn:
        some = _some(state.pending)
        batch = some[: call["most"] or STEP]
        if not state.bodies.keys() >= {callback["event_id"] for callback in batch}:
            state.bodies = await _bodies(call, some)
        verdicts = await _judge(call, batch, state.bodies)
        pairs = [(callback, verdicts[callback["event_id"]]) for callback in batch]
        async with call.parts.stored.question(changes=True) as admin:
            step = await _queue(admin, state.action, pairs, call.config.terms)
        state.pending = state.pending[step["taken"] :]
    return {**step, "more": bool(state.pending)}


async def _queue(
    admin: Admin, action: Action, pairs: Sequence[tuple[RefusedCallback, _Verdict]], terms: Terms
) -> ReplayStep:
    """Queue the first callbacks, as long as they are for the same targets. A delivery that the
    store has already stays as it is, so after a crash a step may be done again."""
    targets = pairs[0][1].targets if pairs else ()
    same = [*takewhile(lambda pair: pair[1].targets == targets, pairs)]
    if not targets:  # refused or delivered meanwhile
        return ReplayStep(taken=len(same), changed=0, more=False, is_full=False)
    events = [
        Resend(
            record_of(callback, terms, admin.now()),
            OutboundEvent.of(verdict.event, callback["request_id"]),
            once=True,
        )
        for callback, verdict in same
        if verdict.event is not None  # as for every one with targets
    ]
    resent = [await admin.resend(action, target, events) for target in targets]
    await admin.resend(action, targets[0], ())  # this action has no place to go on from
    taken = min(each.taken for each in resent)
    changed = min(taken, max(each.changed for each in resent))
    return ReplayStep(taken=taken, changed=changed, more=False, is_full=taken < len(events))


def record_of(callback: RefusedCallback, terms: Terms, now: float) -> Record:
    """Return the record of a callback. While EBaaS retries it, the record is open: its next request
    finds what was delivered, and gets its `000` for it."""
    first, last = callback["first"], callback["last"]
    # Some of its requests may not be in the archive.
    requests = max(callback["requests"], 1 + bisect_right(terms.ebaas.due(), last - first))
    seen = Record(callback["event_id"], Stage.OPEN, first, requests, last, last, last, last)
    record = rules.record_failed(seen, last, terms, credit_revoked=False)
    if record.ends_at > now:
        return record
    return replace(record, stage=Stage.ENDED, credit_revoked=True)


def _question(call: ApiCall) -> tuple[Question, Retries]:
    question = Question(keys=call["match"], since=call["since"], until=call["until"])
    if not call.parts.router:
        return question, Retries()
    terms = call.config.terms
    return question, Retries(terms.ebaas.due(), rules.ends_at(0.0, terms))


def _some(callbacks: Sequence[RefusedCallback]) -> Sequence[RefusedCallback]:
    """Return the first callbacks whose bodies can be read at a time."""
    size = 0
    for index, callback in enumerate(callbacks[:_MOST_BODIES]):
        size += min(callback["bytes"], KEPT)
        if size > _BODIES_BYTES:
            return callbacks[: index + 1]
    return callbacks[:_MOST_BODIES]


async def _bodies(call: ApiCall, callbacks: Sequence[RefusedCallback]) -> Mapping[str, str]:
    ids = [callback["event_id"] for callback in callbacks if callback["is_whole"]]
    return await call.search_archive(partial(find_bodies, ids), _TIMEOUT) if ids else {}


async def _judge(
    call: ApiCall, callbacks: Sequence[RefusedCallback], bodies: Mapping[str, str]
) -> dict[str, _Verdict]:
    """Return by id what the schema and the routes in force would do with callbacks."""
    intake, config = call.parts.insight.intake, call.config

    def judge(callback: RefusedCallback) -> _Verdict:
        body = bodies.get(callback["event_id"])
        if body is None:
            return _Verdict(None, "its body was not kept whole")
        try:
            event = intake.read(body.encode())
        except Refused as error:
            return _Verdict(None, str(error))
        plan = config.table.match(event)
        names = [target.name for target in plan.required + plan.optional]
        left = [name for name in names if name not in callback["had"]]
        return _Verdict(event, "" if plan.routes else NO_ROUTE, tuple(left))

    # In a thread: many bodies take long.
    work = lambda: {callback["event_id"]: judge(callback) for callback in callbacks}  # noqa: E731
    return await asyncio.to_thread(work)
