"""Which deliveries a command is about: the options that select them, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from router.cli.asking import RemoteProblem
from router.cli.options import nearest_of, value
from router.cli.printing import note
from router.cli.remote import Remote, part
from router.contract.schedule import parse_duration
from router.model.errors import SettingInvalid
from router.routing.index import Glob, GlobInvalid
from router.store.filters import FILTERS, Filters, mind_states
from router.store.ops import Later, Verb
from router.store.promises import State


def add_selection(parser: argparse._ArgumentGroup) -> None:
    many = "; may be repeated"
    parser.add_argument("--target", action="append", metavar="NAME", help=f"of this target{many}")
    parser.add_argument(
        "--state",
        action="append",
        choices=[str(state) for state in State],
        metavar="STATE",
        help=f"in this state{many} (default what is not settled; to replay or discard: dead)",
    )
    parser.add_argument(
        "--match",
        action="append",
        type=value(parse_glob),
        metavar="PATTERN",
        help=f"of events whose key matches, as in routes.yaml{many}",
    )
    parser.add_argument("--event", action="append", metavar="ID", help=f"of this event{many}")
    for name, what in (("older", "longer ago"), ("newer", "less long ago")):
        parser.add_argument(
            f"--{name}-than",
            type=value(parse_duration),
            metavar="TIME",
            help=f"of events that came {what} than this (like 90s, 2h)",
        )
    parser.add_argument(
        "--acknowledged-later",
        choices=[str(each) for each in Later],
        help="those whose body the target has acknowledged since then, as another event's "
        "(default exclude for replay, else include)",
    )


def read_filters(args: argparse.Namespace) -> Filters:
    """Raises SettingInvalid for a state that the verb is not for."""
    if args.verb in [*Verb]:
        try:
            mind_states(Verb(args.verb), [*map(State, args.state or ())])
        except ValueError as error:
            raise SettingInvalid(f"--state: {error}") from None
    return {name: getattr(args, name) for name in FILTERS}


def selects(filters: Filters) -> bool:
    return any(given is not None for given in filters.values())


def mind_targets(
    router: Remote, targets: Collection[str], *, must_be_known: bool = False
) -> set[str] | None:
    """Raises SettingInvalid for a target that neither the store nor routes.yaml knows; where it
    must be known, also for one of which that can't be told. Returns those of routes.yaml, where
    any was asked for and they can be told."""
    if not targets:
        return None
    named = router.targets()
    look = partial(_stored, router)
    mind_known(targets, "the store", router.routes, named, look, must_be_known)
    return named


def note_removed(targets: Collection[str], routes: str, named: set[str] | None) -> None:
    """Tell of those that are in `routes` no more, where its own are known."""
    for name in sorted(set() if named is None else {*targets} - named):
        note(f"{routes} has no target {name!r}: nothing is sent to it")


def _stored(router: Remote, _: set[str]) -> set[str]:
    """The targets that the store has deliveries for."""
    query = [("state", str(state)) for state in State]
    counts = router.get("/deliveries", [*query, ("limit", "1")])["counts"]
    return {count["target"] for count in counts}


def dossier_of(router: Remote, event_id: str, *, body: bool = False) -> Any:
    """All that the store has of one event; None if it does not have it."""
    try:
        return router.get(f"/deliveries/{part(event_id)}", [("body", "true")] if body else [])
    except RemoteProblem as error:
        if error.status == 404:
            return None
        raise


def mind_known(
    targets: Collection[str],
    where: str,
    routes: str,
    named: set[str] | None,
    look: Callable[[set[str]], set[str]],
    must_be_known: bool = False,
) -> None:
    """Raises SettingInvalid for one that is not known: `named` are those of `routes`, and one that
    is gone from there has a past all the same.

    `look` looks through `where` for more, where these are not in `routes`. Where that is not there,
    `named` is None, nobody knows, and that is noted, or is wrong too.
    """
    known = set(named or ())
    if missing := set(targets) - known:
        known |= look(missing)
    for name in sorted(missing - known):
        near = nearest_of(name, known)
        if named is not None:
            raise SettingInvalid(f"no target {name!r} in {where} or in {routes}{near}")
        doubt = (
            f"nothing in {where} is for {name!r}{near or '.'} Whether it is a target can't be "
            f"told, for want of {routes} (--config)"
        )
        if must_be_known:
            raise SettingInvalid(doubt)
        note(doubt)


def parse_glob(text: str) -> Glob:
    try:
        return Glob(text)
    except GlobInvalid as error:
        raise ValueError(str(error)) from None
