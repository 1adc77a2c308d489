"""An operator's actions: the targets they name, and how many deliveries they change, confirmed,
carried out step by step, and reported."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from router.cli.columns import counted
from router.cli.options import add_option, nearest_of, said_yes
from router.cli.printing import NAME, Progress, note, say_as
from router.cli.remote import Remote, RemoteProblem
from router.model.errors import SettingInvalid
from router.routing.index import Glob, GlobInvalid
from router.store.admin import Step, Verb
from router.store.protocol import State

#: Up to so many deliveries are changed without a question.
_UNASKED = 10

DONE = {Verb.REPLAY: "replayed", Verb.DISCARD: "discarded", Verb.RESTORE: "restored"}


def parse_glob(text: str) -> Glob:
    try:
        return Glob(text)
    except GlobInvalid as error:
        raise ValueError(str(error)) from None


def add_match(parser: argparse._ArgumentGroup) -> None:
    about = "of events whose key matches, as in routes.yaml"
    add_option(parser, "--match", "PATTERN", about, parse_glob, many=True)


def add_acting(parser: argparse._ArgumentGroup) -> None:
    """Add the options of an action on many deliveries."""
    parser.add_argument("--dry-run", action="store_true", help="count only; change nothing")
    parser.add_argument("--yes", action="store_true", help="don't ask, however many they are")
    add_who(parser)


def add_who(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    parser.add_argument("--as", dest="who", metavar="NAME", help="who acts (default you@this host)")


def require_targets(router: Remote, targets: Collection[str]) -> None:
    """Raises SettingInvalid for a target that neither routes.yaml nor the store nor the archive
    has."""
    named = router.targets() if targets else None
    missing = {*targets} - (named or set())
    known = (named or set()) | (_with_a_past(router) if missing else set())
    for name in sorted(missing - known):
        unread = f", and {router.routes} can't be read (--config)" if named is None else ""
        where = "the store or the archive" if unread else router.routes
        raise SettingInvalid(f"no target {name!r} in {where}{unread}{nearest_of(name, known)}")


def _with_a_past(router: Remote) -> set[str]:
    """Return the targets that the store has deliveries for, or the archive events."""
    known = set[str]()
    with suppress(RemoteProblem):
        query = [("limit", "1"), *(("state", str(state)) for state in State)]
        known |= {count["target"] for count in router.get("/deliveries", query)["counts"]}
    with suppress(RemoteProblem):
        known |= router.get("/archive")["targets"].keys()
    return known


def note_removed(router: Remote, targets: Collection[str]) -> None:
    """Note the targets that are not in routes.yaml any more, if it can be read."""
    named = router.targets()
    for name in sorted({*targets} - named) if named is not None else ():
        note(f"{router.routes} has no target {name!r}: nothing is sent to it")


@dataclass(slots=True)
class Work:
    """An action and its progress. Not frozen: the numbers grow."""

    verb: Verb
    #: How many deliveries were selected.
    number: int
    taken: int = 0
    changed: int = 0
    #: Why it stopped before its end; `""` if it did not.
    trouble: str = ""

    def do(self, steps: Iterator[Step]) -> None:
        """Carry out the steps. Whatever stops it, the steps before are done."""
        progress = Progress(DONE[self.verb])
        try:
            for step in steps:
                self.taken += step.taken
                self.changed += step.changed
                progress(f"{self.changed:,} of {self.number:,}")
        except RemoteProblem as error:
            self.trouble = str(error)
        except KeyboardInterrupt:
            note(f"stopped: {self}, of {self.number:,}; a step in flight may have changed more")
            raise

    def __str__(self) -> str:
        return f"{counted(self.changed, 'delivery')} {DONE[self.verb]}"


def confirmed(work: Work, args: argparse.Namespace) -> bool:
    """Ask before many deliveries are changed. Raises SettingInvalid if there is no terminal to ask
    at."""
    if work.number <= _UNASKED or args.yes:
        return True
    what = f"{work.verb} {counted(work.number, 'delivery')}"
    is_yes = said_yes(f"{NAME}: {what}? [y/N] ")
    if is_yes is None:
        raise SettingInvalid(f"to {what} needs --yes; --dry-run only counts")
    if not is_yes:
        note("nothing was changed")
    return is_yes


def report(
    work: Work,
    args: argparse.Namespace,
    action: Mapping[str, Any],
    lines: Iterable[str],
    again: str,
) -> None:
    """Print the result: `action` as JSON, the lines for people. `again` says what another run is
    for if this one was stopped."""
    result = {
        **action,
        "deliveries": work.changed,
        "dry_run": args.dry_run,
        "selected": work.number,
        "trouble": work.trouble or None,
    }
    would = f"{counted(work.number, 'delivery')} would be {DONE[work.verb]}"
    say_as(args.format, [result], chain([would if args.dry_run else str(work)], lines))
    if work.trouble and args.format == "text":
        note(f"stopped: {work.trouble}; run it again {again}")
