"""Deliveries in the store: listed in pages, one event's, and what people did last."""

from __future__ import annotations

from typing import TypedDict

from router.ops.api.concern import Concern
from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.params import flag, keys, number, span, text, texts, words
from router.ops.api.rejected import Rejected, nothing_there
from router.ops.api.view import View
from router.store.filters import Filters, selection_of
from router.store.ops import START, Entry, Later, Ops, Selection
from router.store.promises import State
from router.store.shapes import (
    ActionShape,
    CountShape,
    DossierShape,
    EntryShape,
    action_shape,
    count_shapes,
    dossier_shape,
    entry_shape,
)

#: How many deliveries a page has, and the most.
_LIMIT, _MOST = 50, 500

#: How many of the last actions are told, and among how many a team's own are looked for.
_ACTIONS, _LOOKED_AT = 20, 500


class DeliveriesShape(TypedDict):
    """One page of deliveries, in the order in which their events were recorded; with the first,
    how many there are."""

    counts: list[CountShape]
    deliveries: list[EntryShape]
    #: Say it as `after` for the next page; null for the last.
    next: str | None


class ActionsShape(TypedDict):
    """What people did last, newest first."""

    actions: list[ActionShape]


def filters_for(view: View, given: Filters) -> Filters | None:
    """Of the targets that there are; None where nothing can fit."""
    targets = view.among(given["target"])
    return None if targets == () else {**given, "target": targets}


async def deliveries(asked: Asked) -> DeliveriesShape:
    """Deliveries that are not settled, or those in the states that are named"""
    query, view = asked.query, await asked.view()
    concern = Concern(view)
    filters = filters_for(view, query)
    async with asked.parts.stored.asked() as ops:
        if filters is None:
            return DeliveriesShape(counts=[], deliveries=[], next=None)
        selection = selection_of(filters, ops.now())
        limit, after = query["limit"] or _LIMIT, START
        if query["after"] is not None:
            after = await _place(ops, query["after"], view)
        counts = await ops.counts(selection) if after == START else ()
        page = await _page(ops, selection, limit, after)
    last = page[-1] if len(page) == limit else None
    return DeliveriesShape(
        counts=count_shapes(counts),
        deliveries=concern.entries(map(entry_shape, page)),
        next=None if last is None else f"{last.event_id}~{last.row.target}",
    )


async def _page(
    ops: Ops, selection: Selection, size: int, after: tuple[int, str]
) -> tuple[Entry, ...]:
    async for page in ops.pages(selection, size, after):
        return page
    return ()


async def _place(ops: Ops, cursor: str, view: View) -> tuple[int, str]:
    """Where a page ended: events' numbers tell how many there are, and stay here."""
    event_id, _, target = cursor.rpartition("~")
    # Of the holder's own targets: that another has the event is not told either.
    own = Selection(targets=view.among(()) or (), event_ids=(event_id,))
    found = await _page(ops, own, 1, START)
    if not found or not view.has(target):
        raise Rejected(410, "after: what stood there is gone; begin anew")
    return found[0].seq, target


async def actions(asked: Asked) -> ActionsShape:
    """What people did last; a team is told its own"""
    async with asked.parts.stored.asked() as ops:
        found = await ops.actions(_LOOKED_AT if asked.holder.owner else _ACTIONS)
    own = [each for each in found if not asked.holder.owner or each.who == asked.holder.name]
    return ActionsShape(actions=[*map(action_shape, own[:_ACTIONS])])


async def dossier(asked: Asked) -> DossierShape:
    """All that the store has of one event"""
    view, body = await asked.view(), bool(asked.query["body"])
    async with asked.parts.stored.asked() as ops:
        found = await ops.dossier(asked.path["id"])
    if found is not None:
        shape = Concern(view).dossier(dossier_shape(found, body=body))
        if shape is not None:
            return shape
    raise nothing_there("such event, or no more")


DELIVERIES = (
    Endpoint(
        "GET",
        "/deliveries",
        deliveries,
        DeliveriesShape,
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
    Endpoint("GET", "/deliveries/actions", actions, ActionsShape, problems=(404, 503)),
    Endpoint(
        "GET",
        "/deliveries/{id}",
        dossier,
        DossierShape,
        params=(flag("body", "With its body", needs="bodies"),),
        problems=(404, 503),
    ),
)  # fmt: skip
