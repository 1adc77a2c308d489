"""The endpoint that replays archived events to a target: first a preview, then step by step."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypedDict

from router.archive.reading import Question
from router.archive.trace.replay import Again, resend
from router.model.event import new_id
from router.ops.api.endpoint import FLAG, MOMENT, PATTERN, TEXT, ApiCall, Param, endpoint, number
from router.ops.problems import Rejected
from router.ops.searching import ReplayAnswer, find_replays
from router.store.admin import STEP, Action, Admin, ReplayPlace, Resend, Verb
from router.store.protocol import StoreFull
from router.store.views import ActionView, action_view
from router.telemetry.log.lines import stamp, utc

#: The seconds within which a stopped replay can be resumed, and the number of actions that are
#: searched for it.
_RESUMABLE, _SEARCHED_ACTIONS = 86400.0, 1000

#: The age in seconds after which a line is certain to be in the archive.
_WRITTEN = 1.0

#: The longest search for the first event, or count of all, in seconds.
_COUNT_TIMEOUT = 600.0


class ReplayPreview(TypedDict):
    """The events that would be queued."""

    token: str
    action: ActionView
    number: int
    #: When the first and the last of them arrived.
    first: str | None
    last: str | None
    #: The number of lines that are left out, by the reason.
    left_out: dict[str, int]
    #: Parts that could not be read; empty for none.
    damage: str
    #: An earlier replay with the same filters; empty for none.
    before: str


class ReplayStep(TypedDict):
    """The progress by one request."""

    taken: int
    #: The number of them that were queued; the others are still retried, or were queued before.
    changed: int
    more: bool
    #: The target's share of the store is full.
    is_full: bool


@dataclass(slots=True)
class ReplayState:
    """A replay that is under way."""

    action: Action
    #: The events that are left.
    again: Again
    #: Events that have been read, and are queued next.
    pending: list[Resend] = field(default_factory=list)
    has_more: bool = True
    #: One step at a time.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@endpoint(
    "POST",
    "/archive/replay",
    may=("replay",),
    takes=(
        Param("target", "The target to send to", TEXT),
        Param("match", "Events whose key matches a pattern", PATTERN, many=True),
        Param("since", "Not older than this: a time, or a time ago", TEXT),
        Param("until", "Older than this", TEXT),
        Param("backfill", "The events whose plan did not have the target, not the others", FLAG),
        Param("anew", "Do not resume a replay with the same filters that was stopped", FLAG),
        Param("dry_run", "Preview the replay", FLAG),
        Param("token", "The token of a preview, to queue the next of its events", TEXT),
        Param("most", "At most this many at once", number(STEP)),
    ),
)
async def replay(call: ApiCall) -> ReplayPreview | ReplayStep:
    """Send archived events to a target again: first a preview, then its events step by step; not
    for teams, since the archive has everybody's events"""
    call.require_no_team()
    if call.body["token"] is not None:
        return await _step(call)
    if not call.body["dry_run"]:
        raise Rejected("preview_first")
    return await _preview(call)


async def _preview(call: ApiCall) -> ReplayPreview:
    body, target, who = call.body, call.body["target"], call.holder.name or ""
    since, until = _moment(body, "since"), _moment(body, "until")
    if target is None or not (body["match"] or since is not None):
        raise Rejected("replay_selection")
    if body["backfill"] and call.parts.is_running and target not in call.view.targets:
        raise Rejected("unknown_target", name=target)
    async with call.parts.stored.question() as admin:
        until = min(float("inf") if until is None else until, admin.now() - _WRITTEN)
        action, place, before = await _begun(admin, since, body, who)
    question = Question(keys=body["match"], since=action.since, until=until)
    again = Again(target, question, bool(body["backfill"]), place)
    answer = await _search(call, again, page=0)
    return ReplayPreview(
        token=call.parts.previews.put(who, ReplayState(action, again)),
        action=action_view(action),
        number=answer["number"],
        first=None if answer["first"] is None else utc(answer["first"]),
        last=None if answer["last"] is None else utc(answer["last"]),
        left_out=answer["left_out"],
        damage=answer["damage"],
        before=before,
    )


async def _begun(
    admin: Admin, since: float | None, body: Mapping[str, Any], who: str
) -> tuple[Action, ReplayPlace | None, str]:
    """Return a new action, or the one with the same filters that was stopped, and where it goes on;
    and a sentence about the earlier one."""
    now, words, before = admin.now(), _words(body), ""
    for action in () if body["anew"] else await admin.actions(_SEARCHED_ACTIONS):
        if action.what != _text(words, action.since):
            continue
        if now - action.at >= _RESUMABLE:
            break
        if action.place is not None:
            before = (
                f"continuing what {action.who} began at {utc(action.at)}, "
                f"after {stamp(action.place.at)}; --anew begins anew"
            )
            return replace(action, place=None), action.place, before
        before = f"{action.who} did the same at {utc(action.at)}: this does it anew"
        break
    action = Action(new_id(), Verb.REPLAY, who, _text(words, since), now, since=since)
    return action, None, before


def _text(words: str, since: float | None) -> str:
    """Return the filters of a replay for people, with the moment that `since` stood for."""
    return f"archive {words} from {'-' if since is None else stamp(since)}"


def _moment(body: Mapping[str, Any], name: str) -> float | None:
    moment: float | None = Param(name, "", MOMENT).parse([body[name]] if body[name] else [])
    return moment


def _words(body: Mapping[str, Any]) -> str:
    """Return the filters as options. A time ago is kept as it was written."""
    words = ["--target", body["target"]]
    for glob in body["match"]:
        words += ["--match", glob.pattern]
    for name in ("since", "until"):
        if body[name] is not None:
            words += [f"--{name}", body[name]]
    return shlex.join([*words, *(["--backfill"] if body["backfill"] else [])])


async def _search(call: ApiCall, again: Again, page: int) -> ReplayAnswer:
    work = partial(find_replays, again, page)
    answer = await call.parts.search.run(work, timeout=_COUNT_TIMEOUT, store=False)
    if answer is None:
        raise Rejected("no_archive")
    return answer


async def _step(call: ApiCall) -> ReplayStep:
    state = call.parts.previews.get(call.holder.name or "", call.body["token"], ReplayState)
    async with state.turn:
        if not state.pending and state.has_more:
            await _fill(call, state)
        batch = state.pending[: call.body["most"] or STEP]
        async with call.parts.stored.question() as admin:
            try:
                resent = await admin.resend(state.action, state.again.target, batch)
            except StoreFull:
                return ReplayStep(taken=0, changed=0, more=True, is_full=True)
        del state.pending[: resent.taken]
    is_full = resent.taken < len(batch)
    return ReplayStep(taken=resent.taken, changed=resent.changed, more=bool(batch), is_full=is_full)


async def _fill(call: ApiCall, state: ReplayState) -> None:
    """Read the next events from the archive."""
    answer = await _search(call, state.again, page=STEP)
    events = answer["events"]
    resends = await asyncio.to_thread(lambda: [resend(**event) for event in events])
    state.pending = [event for event in resends if event is not None]
    state.has_more = answer["more"]
    if events:
        after = ReplayPlace(events[-1]["at"], events[-1]["event_id"])
        state.again = replace(state.again, after=after)
