"""Filters: which deliveries are meant, by the words that command lines and the API share."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from router.routing.index import Glob
from router.store.ops import DISCARDED, Later, Selection, Verb
from router.store.promises import UNSETTLED, State

#: By name: the values of which any fits, or one; time spans are in seconds. None, or nothing, where
#: it was not given.
Filters = Mapping[str, Any]

#: All there are.
FILTERS = ("target", "state", "match", "event", "older_than", "newer_than", "acknowledged_later")


def selection_of(filters: Filters, now: float) -> Selection:
    """Unless a state is given, of what is not settled."""
    older, newer = filters.get("older_than"), filters.get("newer_than")
    return Selection(
        targets=tuple(filters.get("target") or ()),
        states=tuple(map(State, filters.get("state") or UNSETTLED)),
        event_ids=tuple(filters.get("event") or ()),
        keys=tuple(filters.get("match") or ()),
        since=None if newer is None else now - newer,
        until=None if older is None else now - older,
        acknowledged_later=Later(filters.get("acknowledged_later") or Later.INCLUDE),
    )


def acted_on(verb: Verb, filters: Filters, now: float) -> Selection:
    """What fits of what is there now. Unless it is said otherwise what is dead; what was
    acknowledged later is not replayed. Raises ValueError for a state that the verb is not for."""
    states = tuple(map(State, filters.get("state") or ()))
    mind_states(verb, states)
    selection = selection_of(filters, now)
    usual = State.SUPERSEDED if verb is Verb.RESTORE else State.DEAD
    later = Later.EXCLUDE if verb is Verb.REPLAY else Later.INCLUDE
    return replace(
        selection,
        states=states or (usual,),
        reasons=(DISCARDED,) if verb is Verb.RESTORE else (),
        until=now if selection.until is None else selection.until,
        acknowledged_later=Later(filters.get("acknowledged_later") or later),
    )


def mind_states(verb: Verb, states: Sequence[State]) -> None:
    """Raises ValueError for a state that the verb is not for."""
    for state in states:
        if state not in verb.states:
            why = "is settled already"
            if verb is Verb.RESTORE:
                why = "was not discarded"
            elif state in (State.QUEUED, State.AWAITING):
                why = "is retried anyway"
            raise ValueError(f"what is {state} {why}; {verb} is not for it")


def filter_texts(filters: Filters) -> Iterator[tuple[str, str]]:
    """Each name with each of its values, as they are typed."""
    for name in FILTERS:
        given = filters.get(name)
        for each in given if isinstance(given, (list, tuple)) else (given,):
            if each is not None:
                yield name, _text(each)


def filter_words(filters: Filters) -> str:
    """As a command line has them."""
    pairs = ((f"--{name.replace('_', '-')}", text) for name, text in filter_texts(filters))
    return shlex.join(word for pair in pairs for word in pair)


def _text(given: object) -> str:
    if isinstance(given, Glob):
        return given.pattern
    if isinstance(given, float):
        return f"{given:.9f}".rstrip("0").rstrip(".") + "s"
    return str(given)
