"""Endpoints for deliveries: list, show, replay, retry, discard, restore."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypedDict, cast

from router.config.holders import Permission
from router.delivery.rules import TARGET_REMOVED
from router.model.event import Reason, new_id
from router.ops.api.endpoint import (
    FLAG,
    PATTERN,
    SPAN,
    TEXT,
    Endpoint,
    Param,
    endpoint,
    number,
    word,
)
from router.ops.api.view import ApiCall
from router.ops.problems import Rejected
from router.store import admin, views
from router.store.admin import DISCARDED, Later, Seen, Sort, Verb
from router.store.protocol import State

#: The deliveries on a page, by default and at most.
_LIMIT, _MOST = 50, 500

#: The number of actions that are listed, and that are searched for a team's own or a current one.
_ACTIONS, _SEARCHED_ACTIONS = 20, 500

#: The seconds for which one request acts. The next one continues.
_ACT_TIME = 5.0

#: The reasons that a delivery may have.
REASONS = word([*Reason, TARGET_REMOVED, DISCARDED])

#: The filters of a list and of an action.
FILTERS = (
    Param("state", "In these states", word(State), many=True),
    Param("target", "Of these targets", TEXT, many=True),
    Param("reason", "With these reasons; to restore: before the discard", REASONS, many=True),
    Param("match", "Of events whose key matches a pattern, as in routes.yaml", PATTERN, many=True),
    Param("event", "Of these events", TEXT, many=True),
    Param("older_than", "Of events that arrived longer ago", SPAN),
    Param("newer_than", "Of events that arrived less long ago", SPAN),
    Param("acknowledged_later", "Deliveries acknowledged later, by another event", word(Later)),
)


class DeliveriesView(TypedDict):
    """One page of deliveries. The first page has their counts."""

    counts: list[views.CountView]
    #: The deliveries by target, state and reason, the largest groups first; at most 500.
    groups: list[views.GroupView]
    deliveries: list[views.EntryView]
    #: The `after` of the next page; null on the last page.
    next: str | None


@endpoint(
    "GET",
    "/deliveries",
    params=(
        *FILTERS,
        Param("sort", "The order: newest (the default), oldest, or by target", word(Sort)),
        Param("limit", f"How many; {_LIMIT} by default", number(_MOST)),
        Param("after", "The `next` of the previous page", TEXT),
    ),
)
async def deliveries(call: ApiCall) -> DeliveriesView:
    """Deliveries that are not settled, or those in the given states"""
    async with call.parts.stored.question() as store:
        visible = {**call.given, "target": call.among(call["target"])}
        selection = admin.selection_of(visible, store.now())
        limit, sort = call["limit"] or _LIMIT, Sort(call["sort"] or Sort.NEWEST)
        after = await _place(store, call["after"], call) if call["after"] is not None else None
        groups = await store.groups(selection) if after is None else ()
        page = await _page(store, selection, limit, after, sort)

    def make() -> DeliveriesView:
        last = page[-1] if len(page) == limit else None
        return DeliveriesView(
            counts=views.count_views(groups),
            groups=views.group_views(groups),
            deliveries=call.entries(map(views.entry_view, page)),
            next=None if last is None else f"{last.event_id}~{last.row.target}",
        )

    return await asyncio.to_thread(make)


async def _page(
    store: admin.Admin,
    selection: admin.Selection,
    size: int,
    after: tuple[int, str] | None = None,
    sort: Sort = Sort.NEWEST,
) -> tuple[admin.Entry, ...]:
    async for page in store.pages(selection, size, after, sort):
        return page
    return ()


async def _place(store: admin.Admin, cursor: str, call: ApiCall) -> tuple[int, str]:
    """Return the end of a page. A cursor has no numbers of events: these would tell a team how
    many events others have."""
    event_id, _, target = cursor.rpartition("~")
    # Of the holder's own targets: it must not show that another target has the event.
    own = admin.Selection(targets=call.among(()) or (), event_ids=(event_id,))
    entries = await _page(store, own, 1)
    if not entries or not call.has(target):
        raise Rejected("place_gone")
    return entries[0].seq, target


class ActionsView(TypedDict):
    """The last actions of people, newest first."""

    actions: list[views.ActionView]


@endpoint("GET", "/deliveries/actions")
async def actions(call: ApiCall) -> ActionsView:
    """The last actions of people; for a team, its own"""
    async with call.parts.stored.question() as store:
        last = await store.actions(_ACTIONS if call.is_whole else _SEARCHED_ACTIONS)
    own = [action for action in last if call.is_whole or action.who == call.who]
    return ActionsView(actions=[*map(views.action_view, own[:_ACTIONS])])


class OutcomeView(TypedDict):
    """The number of deliveries by their results so far. One that a later action or its caller's
    request has changed does not count any more."""

    acknowledged: int
    #: Dead letters, and those that are retried after a failure.
    failed: int
    #: Those whose first attempt has not ended.
    left: int


@endpoint(
    "GET",
    "/deliveries/outcome",
    params=(Param("action", "The ids of replays or retries", TEXT, many=True, is_required=True),),
)
async def outcome(call: ApiCall) -> OutcomeView:
    """The results of replays and retries so far; for a team, at its targets"""
    async with call.parts.stored.question() as store:
        counts = await store.outcome(call["action"], call.among(()))
    return cast("OutcomeView", counts._asdict())


class PreviewView(TypedDict):
    """The deliveries that the token then acts on, exactly as they are now."""

    token: str
    verb: Verb
    #: The action as it will be recorded.
    action: views.ActionView
    number: int
    counts: list[views.CountView]
    groups: list[views.GroupView]
    #: Further deliveries, which were acknowledged later by another event with the same body.
    left_out: int
    #: Targets that are `paused` or `breaker_open`, to which nothing is sent for now, or `failing`,
    #: by name. Only for a replay and a retry, and if a router runs.
    held: dict[str, str]
    #: If the number is 0: the state of each delivery of the events that were asked for.
    why: list[str]


class DoneView(TypedDict):
    """The progress of an action."""

    action: views.ActionView
    #: The number of deliveries that this request changed.
    changed: int
    #: Deliveries of the preview that have changed since and stay as they are, or are still to do.
    left: int
    #: True if the token has to be sent again for the rest.
    more: bool


@dataclass(frozen=True, slots=True)
class Preview:
    #: The action as it will be recorded, with the time of the preview on the store's clock.
    action: admin.Action
    selection: admin.Selection
    number: int
    #: The targets of the deliveries.
    targets: tuple[str, ...]
    seen: Seen


def _acting(verb: Verb, *may: Permission) -> Endpoint:
    async def act(call: ApiCall) -> PreviewView | DoneView:
        if call["token"] is None:
            return await _preview(call, verb)
        if sum(map(bool, call.given.values())) > 1:
            raise Rejected("token_alone")
        return await _act(call, verb)

    act.__doc__ = f"{verb.capitalize()} deliveries: first a preview, then exactly its deliveries"
    params = (
        *FILTERS,
        Param("dry_run", "Preview the action", FLAG),
        Param("token", "The token of a preview, to act on its deliveries", TEXT),
    )
    return Endpoint("POST", f"/deliveries/{verb}", act, may, params)


ACTS = (
    _acting(Verb.REPLAY, "replay"),
    _acting(Verb.RETRY, "replay"),
    _acting(Verb.DISCARD, "discard"),
    _acting(Verb.RESTORE, "replay", "discard"),
)


async def _preview(call: ApiCall, verb: Verb) -> PreviewView:
    given = call.given
    if not given["dry_run"]:
        raise Rejected("preview_first")
    if not any(given[param.name] for param in FILTERS if param.name != "acknowledged_later"):
        raise Rejected("no_selection", verb=verb)
    if verb is Verb.RETRY and call.parts.router is None:
        raise Rejected("nothing_sends")
    async with call.parts.stored.question() as store:
        action = admin.Action(new_id(), verb, call.who, admin.filter_words(given), store.now())
        try:
            visible = {**given, "target": call.among(given["target"])}
            selection = admin.acted_on(verb, visible, action.at)
        except ValueError as error:
            raise Rejected("invalid_state", why=str(error)) from None
        seen = await Seen.of(store, selection, action.at)
        groups, left_out = await store.groups(selection), 0
        if selection.acknowledged_later is Later.EXCLUDE:
            others = await store.groups(replace(selection, acknowledged_later=Later.ONLY))
            left_out = sum(group.deliveries for group in others)
        why = [] if groups else await _why(store, selection.event_ids, call)
    number = sum(group.deliveries for group in groups)
    targets = tuple({group.target for group in groups})
    return PreviewView(
        token=call.parts.previews.put(call.who, Preview(action, selection, number, targets, seen)),
        verb=verb,
        action=views.action_view(action),
        number=number,
        counts=views.count_views(groups),
        groups=views.group_views(groups),
        left_out=left_out,
        held=_held(call, targets) if verb in (Verb.REPLAY, Verb.RETRY) else {},
        why=why,
    )


def _held(call: ApiCall, targets: Sequence[str]) -> dict[str, str]:
    held: dict[str, str] = {}
    metrics = call.parts.router.report().metrics.targets if call.parts.router else {}
    for name in sorted(metrics.keys() & targets):
        if metrics[name].paused:
            held[name] = "paused"
        elif metrics[name].breaker["open"] or metrics[name].breaker["half_open"]:
            held[name] = "breaker_open"
        elif metrics[name].state == "failing":
            held[name] = "failing"
    return held


async def _why(store: admin.Admin, event_ids: Sequence[str], call: ApiCall) -> list[str]:
    why: list[str] = []
    for event_id in event_ids:
        dossier = await store.dossier(event_id)
        rows = [entry.row for entry in dossier.entries] if dossier else []
        states = [f"{row.target}: {row.state}" for row in rows if call.has(row.target)]
        why += states or [f"event {event_id}: never kept, or no longer"]
    return why


async def _act(call: ApiCall, verb: Verb) -> DoneView:
    preview = call.parts.previews.get(call.who, call["token"], Preview)
    action, selection = preview.action, preview.selection
    if action.verb != verb:
        raise Rejected("other_preview")
    if not preview.number:
        return DoneView(action=views.action_view(action), changed=0, left=0, more=False)
    # The holder may have got an owner since the preview, or lost a target.
    if call.among(selection.targets) != (selection.targets or None):
        raise Rejected("target_gone")
    changed, more, ends = 0, False, time.monotonic() + _ACT_TIME
    async with call.parts.stored.question(changes=True) as store:
        action = replace(action, at=store.now())
        async with aclosing(admin.carry_out(store, action, selection, preview.seen)) as steps:
            async for step in steps:
                changed += step.changed
                if more := time.monotonic() > ends:
                    break
        known = await store.actions(_SEARCHED_ACTIONS)
    if verb is Verb.RETRY:
        call.parts.insight.recoveries.ask(preview.targets)
    done = next((later for later in known if later.action_id == action.action_id), action)
    left = max(0, preview.number - done.deliveries)
    return DoneView(
        action=views.action_view(done), changed=changed, left=left, more=more and left > 0
    )
