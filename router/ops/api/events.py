"""Endpoints for events: search, one event, the live stream; the archive and its replay."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypedDict

from router.archive.reading import InventoryView, Question, Word
from router.archive.trace.replay import Again, resend
from router.archive.trace.views import NextView, StoryView
from router.model.event import new_id
from router.ops import searching
from router.ops.api.endpoint import FLAG, MOMENT, PATTERN, TEXT, Param, endpoint, number
from router.ops.api.targets import recovery_view
from router.ops.api.view import ApiCall
from router.ops.problems import Rejected
from router.ops.streams import Stream, StreamFilter
from router.store.admin import STEP, Action, Admin, ReplayPlace, Resend, Verb
from router.store.protocol import RETRIED
from router.store.views import ActionView, action_view
from router.telemetry.log.lines import stamp, utc

#: The events of a search: by default, at most, and at most with bodies of up to 1 MiB.
_LIMIT, _MOST, _MOST_BODIES = 20, 200, 20

_WHAT = (
    "An event's id, its request's or trace's id, its key or a pattern of keys, an id in its "
    "changes, the beginning of its body's SHA-256, or a whole word of a refused callback's body"
)


@endpoint(
    "GET",
    "/events",
    params=(
        Param("what", _WHAT, TEXT, many=True),
        Param("since", "Not older than this: a time, or a time ago", MOMENT),
        Param("until", "Older than this", MOMENT),
        Param("target", "Of these targets", TEXT, many=True),
        Param("code", "With this code for EBaaS or of a receiver, or HTTP status", TEXT, many=True),
        Param("failed", "Without 000, or with a failed attempt", FLAG),
        Param("limit", f"How many; {_LIMIT} by default", number(_MOST)),
        Param("body", f"With bodies; then at most {_MOST_BODIES} events", FLAG, needs="bodies"),
    ),
)
async def events(call: ApiCall) -> searching.EventsView:
    """Events by any of their ids, or by what became of them"""
    body, limit = bool(call["body"]), call["limit"] or _LIMIT
    if body and limit > _MOST_BODIES:
        raise Rejected("bodies_limit", most=_MOST_BODIES)
    question = Question(
        words=tuple(map(Word, call["what"])),
        targets=call.among(call["target"]) or (),
        seen=call.among(()) or (),
        codes=call["code"],
        since=call["since"],
        until=call["until"],
        failed=bool(call["failed"]),
    )
    work = partial(searching.find_events, question, limit, body)
    answer = await call.parts.search.run(work, call.holder.owner)
    visible = [shown for match in answer["events"] if (shown := call.match(match)) is not None]
    return {**answer, "events": visible}


@endpoint("GET", "/events/{id}", params=(Param("body", "With its body", FLAG, needs="bodies"),))
async def event(call: ApiCall) -> StoryView:
    """One event: each request, each attempt, and what comes next"""
    # A search for another team's event takes as long as one for an event that does not exist.
    own = call.among(()) or ()
    question = Question(event_id=call["id"], targets=own, seen=own)
    work = partial(searching.find_story, question, bool(call["body"]))
    story = await call.parts.search.run(work, call.holder.owner)
    visible = story and call.story(story)
    if visible is None:
        raise Rejected("no_event")
    return {**visible, "next": [*_recoveries(call, visible), *visible["next"]]}


def _recoveries(call: ApiCall, story: StoryView) -> Iterator[NextView]:
    """Yield the recoveries in progress that the event's deliveries wait for."""
    router = call.parts.router
    targets = router.report().metrics.targets if router else {}
    for entry in story["deliveries"]:
        name = entry["target"]
        recovery = recovery_view(targets[name]) if name in targets else None
        if recovery is not None and entry["state"] in RETRIED:
            at, left = recovery["since"], recovery["left"]
            step = NextView(what="recovery", at=at, number=left, target=name)
            yield {**step, "recovery": recovery}


@endpoint("GET", "/archive")
async def archive(call: ApiCall) -> InventoryView:
    """The contents of the archive; not for teams, since it has everybody's events"""
    call.require_no_team()
    return await call.search_archive(searching.find_inventory, store=False)


@endpoint(
    "GET",
    "/stream",
    params=(
        Param("target", "About these targets", TEXT, many=True),
        Param("match", "Events whose key matches, as in routes.yaml", PATTERN, many=True),
        Param("failed", "Without 000, with a failed attempt, or another problem", FLAG),
        Param("bodies", "With the events' bodies", FLAG, needs="bodies"),
    ),
)
async def stream(call: ApiCall) -> Stream:
    """Log events as server-sent events: `event`, `retried`, `dead_letter`, `failing` and others by
    their names in the log; `beat` if nothing happens, `dropped` for a reader that is too slow"""
    failed, bodies = bool(call["failed"]), bool(call["bodies"])
    filter_ = StreamFilter(call.holder, call["target"], call["match"], failed, bodies)
    return call.parts.insight.streams.open(filter_)


#: The seconds within which a stopped replay can be resumed, and the number of actions that are
#: searched for it.
_RESUMABLE, _SEARCHED_ACTIONS = 86400.0, 1000

#: The age after which a line is certain to be in the archive, and the longest search for the first
#: event, or count of all, in seconds.
_WRITTEN, _COUNT_TIMEOUT = 1.0, 600.0


class ReplayPreview(searching.ReplayCounts):
    """The events that would be queued."""

    token: str
    action: ActionView
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
    params=(
        Param("target", "The target to send to", TEXT),
        Param("event", "The event with this id alone", TEXT),
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
    if call["token"] is not None:
        return await _step(call)
    if not call["dry_run"]:
        raise Rejected("preview_first")
    return await _preview(call)


async def _preview(call: ApiCall) -> ReplayPreview:
    given, target = call.given, call["target"]
    since, until = (
        Param(name, "", MOMENT).parse([given[name]] if given[name] else [])
        for name in ("since", "until")
    )
    if target is None or not (given["event"] or given["match"] or since is not None):
        raise Rejected("replay_selection")
    if given["backfill"] and call.parts.router and call.target(target) is None:
        raise Rejected("unknown_target", name=target)
    async with call.parts.stored.question() as admin:
        until = min(float("inf") if until is None else until, admin.now() - _WRITTEN)
        action, place, before = await _begun(admin, since, given, call.who)
    question = Question(
        event_id=given["event"] or "", keys=given["match"], since=action.since, until=until
    )
    again = Again(target, question, bool(given["backfill"]), place)
    answer = await _search(call, again, page=0)
    token = call.parts.previews.put(call.who, ReplayState(action, again))
    return {**answer["counts"], "token": token, "action": action_view(action), "before": before}


async def _begun(
    admin: Admin, since: float | None, given: Mapping[str, Any], who: str
) -> tuple[Action, ReplayPlace | None, str]:
    """Return a new action, or the one with the same filters that was stopped, and where it goes on;
    and a sentence about the earlier one."""
    now, words = admin.now(), _words(given)
    same = [
        action
        for action in (() if given["anew"] else await admin.actions(_SEARCHED_ACTIONS))
        if action.what == _text(words, action.since) and now - action.at < _RESUMABLE
    ]
    last = same[0] if same else None
    if last is not None and last.place is not None:
        before = (
            f"continuing what {last.who} began at {utc(last.at)}, "
            f"after {stamp(last.place.at)}; --anew begins anew"
        )
        return replace(last, place=None), last.place, before
    before = f"{last.who} did the same at {utc(last.at)}: this does it anew" if last else ""
    action = Action(new_id(), Verb.REPLAY, who, _text(words, since), now, since=since)
    return action, None, before


def _text(words: str, since: float | None) -> str:
    """Return the filters of a replay for people, with the moment that `since` stood for."""
    return f"archive {words} from {'-' if since is None else stamp(since)}"


def _words(given: Mapping[str, Any]) -> str:
    """Return the filters as options. A time ago is kept as it was written."""
    event = ["--event", given["event"]] if given["event"] else []
    words = ["--target", given["target"], *event, *which_words(given, str)]
    return shlex.join([*words, *(["--backfill"] if given["backfill"] else [])])


def which_words(given: Mapping[str, Any], time: Callable[[Any], str]) -> Iterator[str]:
    """Yield the selection by keys and times as options; `time` formats a time."""
    for glob in given["match"]:
        yield from ("--match", glob.pattern)
    for name in ("since", "until"):
        if given[name] is not None:
            yield from (f"--{name}", time(given[name]))


async def _search(call: ApiCall, again: Again, page: int) -> searching.ReplayAnswer:
    work = partial(searching.find_replays, again, page)
    return await call.search_archive(work, _COUNT_TIMEOUT, store=False)


async def _step(call: ApiCall) -> ReplayStep:
    state = call.parts.previews.get(call.who, call["token"], ReplayState)
    async with state.turn:
        if not state.pending and state.has_more:
            await _fill(call, state)
        batch = state.pending[: call["most"] or STEP]
        async with call.parts.stored.question(changes=True) as admin:
            resent = await admin.resend(state.action, state.again.target, batch)
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
