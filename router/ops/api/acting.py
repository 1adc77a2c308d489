"""Deliveries replayed, discarded and restored: first a preview of which, then exactly those."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal, NotRequired, TypedDict

from router.config.holders import Deed
from router.model.event import new_id
from router.ops.api.deliveries import filters_for
from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.params import parse_span, read_glob, read_text
from router.ops.api.preview import Previewed
from router.ops.api.rejected import Rejected
from router.ops.api.view import View
from router.store.filters import Filters, acted_on, filter_words
from router.store.ops import Action, Count, Later, Ops, Selection, Verb, carry_out
from router.store.promises import State
from router.store.shapes import ActionShape, CountShape, action_shape, count_shapes

#: For how many seconds one request acts; what is left then takes another.
_ACT_FOR = 5.0

#: The most members of one list.
_MOST = 64

#: Among how many of the last actions one that goes on is looked for.
_LOOKED_AT = 200

_VERBS: dict[Verb, tuple[Deed, ...]] = {
    Verb.REPLAY: ("replay",),
    Verb.DISCARD: ("discard",),
    Verb.RESTORE: ("replay", "discard"),
}


class ActShape(TypedDict):
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


class PreviewShape(TypedDict):
    """What would be acted on. The token stands for exactly these, as they are now."""

    token: str
    verb: Verb
    #: As it will be recorded.
    action: ActionShape
    number: int
    counts: list[CountShape]
    #: How many more there are that were acknowledged later, as another event's.
    left_out: int
    #: Where it is nothing: why.
    why: list[str]


class DoneShape(TypedDict):
    """How far an action is."""

    action: ActionShape
    #: By this request.
    changed: int
    #: Of those in the preview: what has changed since and stays as it is, or is still to be done.
    left: int
    #: There is more to be done: send the token again.
    more: bool


def acting(verb: Verb) -> Callable[[Asked], Awaitable[PreviewShape | DoneShape]]:
    async def act(asked: Asked) -> PreviewShape | DoneShape:
        view = await asked.view()
        if "token" not in asked.body:
            return await _preview(asked, verb, view)
        if len(asked.body) > 1:
            raise Rejected(400, "token: says all, so that nothing else can be given with it")
        return await _act(asked, verb, view)

    act.__doc__ = f"{verb.capitalize()} deliveries: a preview of which, then exactly those"
    return act


async def _preview(asked: Asked, verb: Verb, view: View) -> PreviewShape:
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
            if len(texts := body.get(name, [])) > _MOST:
                raise ValueError(f"has more than {_MOST} members")
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


async def _why(ops: Ops, selection: Selection, view: View) -> list[str]:
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
) -> PreviewShape:
    number = sum(count.deliveries for count in counts)
    return PreviewShape(
        token=asked.parts.previews.put(Previewed(action, selection, number)),
        verb=action.verb,
        action=action_shape(action),
        number=number,
        counts=count_shapes(counts),
        left_out=left_out,
        why=why,
    )


async def _act(asked: Asked, verb: Verb, view: View) -> DoneShape:
    previewed = _previewed(asked, verb)
    action, selection = replace(previewed.action, at=time.time()), previewed.selection
    if not previewed.number:
        return DoneShape(action=action_shape(action), changed=0, left=0, more=False)
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
        known = await ops.actions(_LOOKED_AT)
    done = next((each for each in known if each.action_id == action.action_id), action)
    left = max(0, previewed.number - done.deliveries)
    return DoneShape(action=action_shape(done), changed=changed, left=left, more=more and left > 0)


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
        PreviewShape | DoneShape,
        may=may,
        takes=ActShape,
        problems=(404, 409, 503),
    )
    for verb, may in _VERBS.items()
)
