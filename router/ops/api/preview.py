"""What a preview's token has: which deliveries, and what was seen of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from router.routing import Glob
from router.store import Later, Selection, State, Verb


class Previewed(TypedDict):
    """What a token has."""

    verb: Verb
    who: str | None
    action_id: str
    #: The selection in words, and as it was resolved.
    words: str
    selection: dict[str, Any]
    #: On the store's clock.
    moment: float
    number: int


def plain_selection(selection: Selection) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "targets": [*selection.targets],
        "states": [*selection.states],
        "event_ids": [*selection.event_ids],
        "reasons": [*selection.reasons],
        "keys": [glob.pattern for glob in selection.keys],
        "since": selection.since,
        "until": selection.until,
        "acknowledged_later": selection.acknowledged_later,
    }


def selection_again(plain: Mapping[str, Any]) -> Selection:
    return Selection(
        targets=tuple(plain["targets"]),
        states=tuple(map(State, plain["states"])),
        event_ids=tuple(plain["event_ids"]),
        reasons=tuple(plain["reasons"]),
        keys=tuple(map(Glob, plain["keys"])),
        since=plain["since"],
        until=plain["until"],
        acknowledged_later=Later(plain["acknowledged_later"]),
    )
