"""Deliveries that a command means, and an action on many: counted, confirmed, done, reported."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from router.cli.asking import RemoteProblem
from router.cli.entries import DONE, deliveries, format_counts, standing, total
from router.cli.options import BAD, GOOD, nearest_of, said_yes, value
from router.cli.printing import NAME, PROGRESS_EVERY, note, say_as, say_lines
from router.cli.remote import Remote, part
from router.contract.schedule import parse_duration
from router.model.errors import SettingInvalid
from router.routing.index import Glob, GlobInvalid
from router.store.admin import FILTERS, Filters, Later, Step, Verb, check_states, filter_texts
from router.store.protocol import State
from router.store.views import DossierView


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
            check_states(Verb(args.verb), [*map(State, args.state or ())])
        except ValueError as error:
            raise SettingInvalid(f"--state: {error}") from None
    return {name: getattr(args, name) for name in FILTERS}


def selects(filters: Filters) -> bool:
    return any(given is not None for given in filters.values())


def require_targets(
    router: Remote, targets: Collection[str], *, must_be_known: bool = False
) -> set[str] | None:
    """Raises SettingInvalid for a target that neither the store nor routes.yaml knows; where it
    must be known, also for one of which that can't be told. Returns those of routes.yaml, where
    any was asked for and they can be told."""
    if not targets:
        return None
    named = router.targets()
    look = partial(_stored, router)
    require_known(targets, "the store", router.routes, named, look, must_be_known)
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


def require_known(
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


#: How many deliveries are acted on without a question.
_UNASKED = 10


def add_acting(parser: argparse._ArgumentGroup) -> None:
    """How something is done to many deliveries, and by whom."""
    parser.add_argument("--dry-run", action="store_true", help="count only; change nothing")
    parser.add_argument("--yes", action="store_true", help="don't ask, however many they are")
    add_who(parser)


def add_who(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    parser.add_argument("--as", dest="who", metavar="NAME", help="who acts (default you@this host)")


def act(router: Remote, filters: Filters, args: argparse.Namespace) -> int:
    """Replay, discard or restore what is selected; the exit code."""
    path = f"/deliveries/{args.verb}"
    preview = router.post(path, {**_body(filters), "dry_run": True})
    action, counts, left_out = preview["action"], preview["counts"], preview["left_out"]
    work = Work(Verb(args.verb), total(counts))
    if args.format == "text":
        told = format_counts(counts, router.now())
        say_lines(told if work.number else [_nothing_fits(work.verb, action["what"], filters)])
    if work.verb is Verb.REPLAY:
        note_removed({count["target"] for count in counts}, router.routes, router.targets())
    if work.number and not args.dry_run:
        if not confirmed(work, args):
            return BAD
        work.do(_carry_out(router, path, preview["token"]))
    asked = () if work.number else filters["event"] or ()
    found = {each: dossier_of(router, each) for each in asked}
    why = [*_why_not(found, filters["target"] or (), router.now(), work.verb)]
    more = {"left_out": left_out, "counts": counts, "why": why}
    lines = chain(_left_out(left_out), _stayed(work), why)
    report(work, args, {**action, **more}, lines, "for what is left")
    return BAD if work.trouble or None in found.values() else GOOD


def _body(filters: Filters) -> dict[str, Any]:
    """The filters as JSON has them: a list of those that may be many."""
    body: dict[str, Any] = {}
    for name, text in filter_texts(filters):
        if isinstance(filters[name], list):
            body.setdefault(name, []).append(text)
        else:
            body[name] = text
    return body


def _carry_out(router: Remote, path: str, token: str) -> Iterator[Step]:
    """What is left at the end has changed since the preview."""
    more = True
    while more:
        done = router.post(path, {"token": token})
        more = done["more"]
        yield Step(done["changed"] + (0 if more else done["left"]), done["changed"])


@dataclass(slots=True)
class Work:
    """An action and how far it is. Not frozen: it goes on."""

    verb: Verb
    #: How many deliveries were selected.
    number: int
    taken: int = 0
    changed: int = 0
    #: Why it stopped before its end; `""` where it did not.
    trouble: str = ""

    def do(self, steps: Iterator[Step]) -> None:
        """What is done stays done, whatever stops it."""
        told = time.monotonic()
        try:
            for step in steps:
                self.taken += step.taken
                self.changed += step.changed
                if time.monotonic() - told >= PROGRESS_EVERY:
                    told = time.monotonic()
                    note(f"{self}, of {self.number:,}")
        except RemoteProblem as error:
            self.trouble = str(error)
        except KeyboardInterrupt:
            note(f"stopped: {self}, of {self.number:,}, and perhaps the step in hand; see the list")
            raise

    def __str__(self) -> str:
        return f"{deliveries(self.changed)} {DONE[self.verb]}"


def _nothing_fits(verb: Verb, what: str, filters: Filters) -> str:
    """What was looked for in vain."""
    states = ["discarded"] if verb is Verb.RESTORE else filters["state"] or ["dead"]
    return f"no {' or '.join(states)} delivery fits {what}"


def _why_not(
    found: Mapping[str, DossierView | None], targets: Collection[str], now: float, verb: Verb
) -> Iterator[str]:
    """Of the events that were asked for, why nothing is done with their deliveries."""
    for event_id, dossier in found.items():
        if dossier is None:
            yield f"event {event_id}: never kept, or over for long enough"
            continue
        for entry in dossier["deliveries"]:
            if not targets or entry["target"] in targets:
                is_open = entry["state"] in (State.QUEUED, State.AWAITING)
                takes = f"; --state {entry['state']} takes it"
                hint = takes if verb is Verb.DISCARD and is_open else ""
                yield f"{entry['target']}: {standing(entry, now)}{hint}"


def confirmed(work: Work, args: argparse.Namespace) -> bool:
    """Where many are to be acted on, ask on a terminal; where there is none, that is a mistake of
    the command line. A no is told."""
    if work.number <= _UNASKED or args.yes:
        return True
    what = f"{work.verb} {deliveries(work.number)}"
    said = said_yes(f"{NAME}: {what}? [y/N] ")
    if said is None:
        raise SettingInvalid(f"to {what} needs --yes; --dry-run only counts")
    if not said:
        note("nothing was changed")
    return said


def report(
    work: Work,
    args: argparse.Namespace,
    action: Mapping[str, Any],
    lines: Iterable[str],
    again: str,
) -> None:
    """What was done: `action` as JSON, the lines for people. `again` says what for to run it again
    where it was stopped."""
    shape = {
        **action,
        "deliveries": work.changed,
        "dry_run": args.dry_run,
        "selected": work.number,
        "trouble": work.trouble or None,
    }
    would = f"{deliveries(work.number)} would be {DONE[work.verb]}"
    say_as(args.format, [shape], chain([would if args.dry_run else str(work)], lines))
    if work.trouble and args.format == "text":
        note(f"stopped: {work.trouble}; run it again {again}")


def _left_out(number: int) -> Iterator[str]:
    if number:
        were = "was" if number == 1 else "were"
        yield f"{number:,} {were} acknowledged later, as another event's, and left out:"
        yield "  --acknowledged-later include takes them too"


def _stayed(work: Work) -> Iterator[str]:
    if elsewhere := work.taken - work.changed:
        yield f"{elsewhere:,} had changed meanwhile and stayed as they were"
