"""Which deliveries a command is about: the options that select them, and what they mean."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Collection
from pathlib import Path

from router.cli.options import nearest_of, read_setting, value
from router.cli.printing import note
from router.config import MapNode, ScalarNode, parse_document, read
from router.contract import PLATFORM, parse_duration
from router.model import ConfigInvalid, SettingInvalid
from router.routing import Glob, GlobInvalid
from router.store import DISCARDED, UNSETTLED, Later, Ops, Selection, State, Verb

#: The options that select deliveries.
SELECTING = ("target", "state", "match", "event", "older_than", "newer_than", "acknowledged_later")


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


def selects(args: argparse.Namespace) -> bool:
    return any(getattr(args, name) is not None for name in SELECTING)


def read_selection(args: argparse.Namespace) -> Selection:
    replay, restore = args.verb == Verb.REPLAY, args.verb == Verb.RESTORE
    now = time.time()
    return Selection(
        targets=tuple(args.target or ()),
        states=_states(args),
        event_ids=tuple(args.event or ()),
        reasons=(DISCARDED,) if restore else (),
        keys=tuple(args.match or ()),
        since=None if args.newer_than is None else now - args.newer_than,
        until=None if args.older_than is None else now - args.older_than,
        acknowledged_later=Later(
            args.acknowledged_later or (Later.EXCLUDE if replay else Later.INCLUDE)
        ),
    )


async def mind_targets(ops: Ops, args: argparse.Namespace, targets: Collection[str]) -> None:
    """Raises SettingInvalid for a target that neither the store nor routes.yaml knows. Where that
    file can't be read nobody knows, and that is noted."""
    path, known, unread = read_setting(args, "config"), set[str](), False
    if targets:
        try:
            known = _targets_of(path)
        except ConfigInvalid:
            unread = True
    if set(targets) - known:  # only then is the whole store looked through
        known |= {count.target for count in await ops.counts(Selection())}
    for name in sorted(set(targets) - known):
        if not unread:
            raise SettingInvalid(
                f"no target {name!r} in the store or in {path}{nearest_of(name, known)}"
            )
        note(
            f"no delivery in the store is for {name!r}; whether it is a target can't be told, "
            f"for want of {path} (--config)"
        )


def requests_of(path: Path) -> int | None:
    """How many requests EBaaS makes of an event, by the routes.yaml at `path`; None where that
    can't be told."""
    try:
        said = _section(path, "ebaas").get("retries", str(PLATFORM.retries))
        return 1 + int(said)
    except (ConfigInvalid, ValueError):
        return None


def _targets_of(path: Path) -> set[str]:
    return set(_section(path, "targets"))


def _section(path: Path, name: str) -> dict[str, str]:
    """The keys of a section of routes.yaml, and what is written there: neither variables nor
    secrets are needed for it. Raises ConfigInvalid."""
    roots = [parse_document(each.content, each.name) for each in read(path)]
    sections = [each for root in roots if isinstance(root, MapNode) for each in root.entries]
    found = (node for key, node in sections if key.text == name)
    entries = (each for node in found if isinstance(node, MapNode) for each in node.entries)
    return {key.text: node.text if isinstance(node, ScalarNode) else "" for key, node in entries}


def _states(args: argparse.Namespace) -> tuple[State, ...]:
    states = tuple(State(state) for state in args.state or ())
    if args.verb not in [*Verb]:
        return states or UNSETTLED
    for state in states:
        if state not in Verb(args.verb).states:
            retried = state in (State.QUEUED, State.AWAITING)
            why = "is retried anyway" if retried else "is settled already"
            if args.verb == Verb.RESTORE:
                why = "was not discarded"
            raise SettingInvalid(f"--state: what is {state} {why}; {args.verb} is not for it")
    return states or ((State.SUPERSEDED,) if args.verb == Verb.RESTORE else (State.DEAD,))


def words(args: argparse.Namespace) -> str:
    """The selection as a command line has it."""
    said: list[str] = []
    for name in SELECTING:
        given = getattr(args, name)
        for each in given if isinstance(given, list) else [given]:
            if each is not None:
                said += ["--" + name.replace("_", "-"), _word(each)]
    return shlex.join(said)


def _word(given: object) -> str:
    if isinstance(given, Glob):
        return given.pattern
    return f"{given:g}s" if isinstance(given, float) else str(given)


def parse_glob(text: str) -> Glob:
    try:
        return Glob(text)
    except GlobInvalid as error:
        raise ValueError(str(error)) from None
