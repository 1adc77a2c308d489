"""Endpoints for deliveries: list, show, replay, discard, restore."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal, NotRequired, TypedDict

from router.config.holders import Permission
from router.model.event import new_id
from router.ops.api.endpoint import (
    Asked,
    Endpoint,
    Rejected,
    flag,
    keys,
    nothing_there,
    number,
    parse_span,
    read_glob,
    read_text,
    span,
    text,
    texts,
    words,
)
from router.ops.api.parts import Previewed
from router.ops.api.view import Concern, View
from router.store.admin import (
    START,
    Action,
    Admin,
    Count,
    Entry,
    Filters,
    Later,
    Selection,
    Verb,
    acted_on,
    carry_out,
    filter_words,
    selection_of,
)
from router.store.protocol import State
from router.store.views import (
    ActionView,
    CountView,
    DossierView,
    EntryView,
    action_view,
    count_views,
    dossier_view,
    entry_view,
)

#: How many deliveries a page has, and the most.
_LIMIT, _MOST = 50, 500

#: How many of the last actions are told, and among how many a team's own are looked for.
_ACTIONS, _LOOKED_AT = 20, 500


class DeliveriesView(TypedDict):
    """One page of deliveries, in the order in which their events were recorded; with the first,
    how many there are."""

    counts: list[CountView]
    deliveries: list[EntryView]
    #: Say it as `after` for the next page; null for the last.
    next: str | None


class ActionsView(TypedDict):
    """What people did last, newest first."""

    actions: list[ActionView]


def filters_for(view: View, given: Filters) -> Filters | None:
    """Of the targets that there are; None where nothing can fit."""
    targets = view.among(given["target"])
    return None if targets == () else {**given, "target": targets}


async def deliveries(asked: Asked) -> DeliveriesView:
    """Deliveries that are not settled, or those in the states that are named"""
    query, view = asked.query, asked.view()
    concern = Concern(view)
    filters = filters_for(view, query)
    async with asked.parts.stored.asked() as ops:
        if filters is None:
            return DeliveriesView(counts=[], deliveries=[], next=None)
        selection = selection_of(filters, ops.now())
        limit, after = query["limit"] or _LIMIT, START
        if query["after"] is not None:
            after = await _place(ops, query["after"], view)
        counts = await ops.counts(selection) if after == START else ()
        page = await _page(ops, selection, limit, after)
    last = page[-1] if len(page) == limit else None
    return DeliveriesView(
        counts=count_views(counts),
        deliveries=concern.entries(map(entry_view, page)),
        next=None if last is None else f"{last.event_id}~{last.row.target}",
    )


async def _page(
    ops: Admin, selection: Selection, size: int, after: tuple[int, str]
) -> tuple[Entry, ...]:
    async for page in ops.pages(selection, size, after):
        return page
    return ()


async def _place(ops: Admin, cursor: str, view: View) -> tuple[int, str]:
    """Where a page ended: events' numbers tell how many there are, and stay here."""
    event_id, _, target = cursor.rpartition("~")
    # Of the holder's own targets: that another has the event is not told either.
    own = Selection(targets=view.among(()) or (), event_ids=(event_id,))
    found = await _page(ops, own, 1, START)
    if not found or not view.has(target):
        raise Rejected(410, "after: what stood there is gone; begin anew")
    return found[0].seq, target


async def actions(asked: Asked) -> ActionsView:
    """What people did last; a team is told its own"""
    async with asked.parts.stored.asked() as ops:
        found = await ops.actions(_LOOKED_AT if asked.holder.owner else _ACTIONS)
    own = [each for each in found if not asked.holder.owner or each.who == asked.holder.name]
    return ActionsView(actions=[*map(action_view, own[:_ACTIONS])])


async def dossier(asked: Asked) -> DossierView:
    """All that the store has of one event"""
    view, body = asked.view(), bool(asked.query["body"])
    async with asked.parts.stored.asked() as ops:
        found = await ops.dossier(asked.path["id"])
    if found is not None:
        shape = Concern(view).dossier(dossier_view(found, body=body))
        if shape is not None:
            return shape
    raise nothing_there("such event, or no more")


DELIVERIES = (
    Endpoint(
        "GET",
        "/deliveries",
        deliveries,
        DeliveriesView,
        params=(
            words("state", "In these states", [str(state) for state in State]),
            texts("target", "Of these targets"),
            keys("match", "Of events whose key matches a pattern, as in routes.yaml"),
            texts("event", "Of these events"),
            span("older_than", "Of events that came longer ago"),
            span("newer_than", "Of events that came less long ago"),
            words("acknowledged_later", "Those that were acknowledged later, as another event's",
                  [str(each) for each in Later], many=False),
            number("limit", f"How many; {_LIMIT} unless it is said", _MOST),
            text("after", "Behind this place: the `next` of the page before"),
        ),
        problems=(404, 410, 503),
    ),
    Endpoint("GET", "/deliveries/actions", actions, ActionsView, problems=(404, 503)),
    Endpoint(
        "GET",
        "/deliveries/{id}",
        dossier,
        DossierView,
        params=(flag("body", "With its body", needs="bodies"),),
        problems=(404, 503),
    ),
)  # fmt: skip


#: For how many seconds one request acts; what is left then takes another.
_ACT_FOR = 5.0

#: The most members of one list.
_MOST_MEMBERS = 64

#: Among how many of the last actions one that goes on is looked for.
_ACTIONS_LOOKED_AT = 200

_VERBS: dict[Verb, tuple[Permission, ...]] = {
    Verb.REPLAY: ("replay",),
    Verb.DISCARD: ("discard",),
    Verb.RESTORE: ("replay", "discard"),
}


class ActView(TypedDict):
    """A preview, `dry_run`, of which deliveries; or the token of one, which acts on those."""

    target: NotRequired[list[str]]
    state: NotRequired[list[State]]
    match: NotRequired[list[str]]
    event: NotRequired[list[str]]
    older_than: NotRequired[str]
    newer_than: NotRequired[str]
    acknowledged_later: NotRequired[Later]
    dry_run: NotRequired[Literal[True]]
    token: NotRequired[str]


class PreviewView(TypedDict):
    """What would be acted on. The token stands for exactly these, as they are now."""

    token: str
    verb: Verb
    #: As it will be recorded.
    action: ActionView
    number: int
    counts: list[CountView]
    #: How many more there are that were acknowledged later, as another event's.
    left_out: int
    #: Where it is nothing: why.
    why: list[str]


class DoneView(TypedDict):
    """How far an action is."""

    action: ActionView
    #: By this request.
    changed: int
    #: Of those in the preview: what has changed since and stays as it is, or is still to be done.
    left: int
    #: There is more to be done: send the token again.
    more: bool


def acting(verb: Verb) -> Callable[[Asked], Awaitable[PreviewView | DoneView]]:
    async def act(asked: Asked) -> PreviewView | DoneView:
        view = asked.view()
        if "token" not in asked.body:
            return await _preview(asked, verb, view)
        if len(asked.body) > 1:
            raise Rejected(400, "token: says all, so that nothing else can be given with it")
        return await _act(asked, verb, view)

    act.__doc__ = f"{verb.capitalize()} deliveries: a preview of which, then exactly those"
    return act


async def _preview(asked: Asked, verb: Verb, view: View) -> PreviewView:
    if "dry_run" not in asked.body:
        raise Rejected(400, "a preview comes first: dry_run, whose token then acts")
    given = _read(asked.body)
    if not any(value for name, value in given.items() if name != "acknowledged_later"):
        raise Rejected(400, f"{verb} which deliveries? Say it, or match * for all")
    filters = filters_for(view, given)
    async with asked.parts.stored.asked() as ops:
        action = Action(new_id(), verb, asked.holder.name or "", filter_words(given), ops.now())
        selection = _selection(verb, given if filters is None else filters, action.at)
        if filters is None:
            return _told(asked, action, replace(selection, targets=("",)), (), 0, [])
        counts = await ops.counts(selection)
        left_out = 0
        if selection.acknowledged_later is Later.EXCLUDE:
            others = await ops.counts(replace(selection, acknowledged_later=Later.ONLY))
            left_out = sum(count.deliveries for count in others)
        why = [] if counts else await _why(ops, selection, view)
    return _told(asked, action, selection, counts, left_out, why)


def _read(body: Mapping[str, Any]) -> dict[str, Any]:
    """The filters as they are meant. Raises Rejected."""
    given: dict[str, Any] = {"acknowledged_later": body.get("acknowledged_later")}
    reads: dict[str, Callable[[str], Any]] = {
        "target": read_text, "state": State, "match": read_glob, "event": read_text,
    }  # fmt: skip
    try:
        for name, read in reads.items():
            if len(texts := body.get(name, [])) > _MOST_MEMBERS:
                raise ValueError(f"has more than {_MOST_MEMBERS} members")
            given[name] = tuple(map(read, texts))
        for name in ("older_than", "newer_than"):
            given[name] = parse_span(body[name]) if name in body else None
    except ValueError as error:
        raise Rejected(400, f"{name}: {error}") from None
    return given


def _selection(verb: Verb, filters: Filters, moment: float) -> Selection:
    """Raises Rejected for a state that the verb is not for."""
    try:
        return acted_on(verb, filters, moment)
    except ValueError as error:
        raise Rejected(400, f"state: {error}") from None


async def _why(ops: Admin, selection: Selection, view: View) -> list[str]:
    """Of the events that were asked for, why there is nothing to be done."""
    said: list[str] = []
    for event_id in selection.event_ids:
        dossier = await ops.dossier(event_id)
        entries = [e for e in dossier.entries if view.has(e.row.target)] if dossier else []
        if not entries:
            said.append(f"event {event_id}: never kept, or over for long enough")
        said += [f"{entry.row.target}: {entry.row.state}" for entry in entries]
    return said


def _told(
    asked: Asked,
    action: Action,
    selection: Selection,
    counts: Sequence[Count],
    left_out: int,
    why: list[str],
) -> PreviewView:
    number = sum(count.deliveries for count in counts)
    return PreviewView(
        token=asked.parts.previews.put(Previewed(action, selection, number)),
        verb=action.verb,
        action=action_view(action),
        number=number,
        counts=count_views(counts),
        left_out=left_out,
        why=why,
    )


async def _act(asked: Asked, verb: Verb, view: View) -> DoneView:
    previewed = _previewed(asked, verb)
    action, selection = replace(previewed.action, at=time.time()), previewed.selection
    if not previewed.number:
        return DoneView(action=action_view(action), changed=0, left=0, more=False)
    # A holder that all were there for may be a team's by now.
    if view.among(selection.targets) != (selection.targets or None):
        raise Rejected(409, "token: a target is not there any more; preview again")
    changed, more, ends = 0, False, time.monotonic() + _ACT_FOR
    async with asked.parts.stored.asked() as ops:
        action = replace(action, at=ops.now())
        steps = carry_out(ops, action, selection, previewed.action.at)
        async with aclosing(steps):
            async for step in steps:
                changed += step.changed
                if more := time.monotonic() > ends:
                    break
        known = await ops.actions(_ACTIONS_LOOKED_AT)
    done = next((each for each in known if each.action_id == action.action_id), action)
    left = max(0, previewed.number - done.deliveries)
    return DoneView(action=action_view(done), changed=changed, left=left, more=more and left > 0)


def _previewed(asked: Asked, verb: Verb) -> Previewed:
    """Raises Rejected for a token that is not of this verb and holder, or is not known any more."""
    previewed = asked.parts.previews.get(asked.body["token"])
    if previewed is None:
        raise Rejected(
            409, "token: is of no preview of this router's run, or of an old one; preview again"
        )
    if (previewed.action.verb, previewed.action.who) != (verb, asked.holder.name):
        raise Rejected(409, "token: is of another preview; preview again")
    return previewed


ACTS = tuple(
    Endpoint(
        "POST",
        f"/deliveries/{verb}",
        acting(verb),
        PreviewView | DoneView,
        may=may,
        takes=ActView,
        problems=(404, 409, 503),
    )
    for verb, may in _VERBS.items()
)
