"""`archive`: what was handled is listed, exported, and delivered again."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from router.cli.columns import columns, counted
from router.cli.deliveries.acting import add_acting
from router.cli.deliveries.selecting import parse_glob
from router.cli.deliveries.store import add_store, opened_ops
from router.cli.history.places import Progress, add_archive, mind_targets, read_archive
from router.cli.history.source import question_of
from router.cli.options import (
    BAD,
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    Help,
    Parser,
    add_format,
    add_settings,
    heed_ctrl_c,
    read_setting,
    value,
)
from router.cli.printing import note, say, say_as
from router.cli.times import add_times, mind_times
from router.config.settings import parse_count
from router.model.errors import StartFailed
from router.telemetry.log.lines import utc

if TYPE_CHECKING:
    from pathlib import Path

    from router.archive.trace.inventory import Inventory

HELP = Help(
    about="Looks into the archive of a router, running or not.",
    verbs={
        "list": "Says from when to when the archive reaches, and how many requests it has.",
        "export": """Writes events as they came, one a line, each once and the oldest first, as
        `diff --events` reads them; `send -` takes one of the lines.""",
        "replay": """Queues events for one target again, under the same webhook-id: for a team whose
        database was rolled back, or, with --backfill, for one that joins late; a running router
        sends them within its limits. Stopped and run again within a day it goes on where it was.
        What a target has settled by itself is not known: it may get again what it has.""",
    },
    examples=(
        "ebaas-router archive list",
        "ebaas-router archive export --match 'a.gs.*' --since 3h >events.jsonl",
        "ebaas-router archive replay --target ledger --since 3h --dry-run",
        "ebaas-router archive replay --target ledger --match 'a.gs.*' --since 3h --rate 20/s",
        "ebaas-router archive replay --target new-team --backfill --since 2d --yes",
    ),
    exit_codes={
        GOOD: "done, or there was nothing to do",
        BAD: "a no to the question, or stopped half-way",
        NOT_STARTED: "the archive or the store is not there or can't be used",
        INTERRUPTED: "Ctrl-C ended it; what is done stays done",
    },
)

#: How many a second are replayed, unless told otherwise.
RATE = 20.0

_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)/(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}

#: The options that only some verbs have.
_ONLY = {
    "match": ("export", "replay"),
    "since": ("export", "replay"),
    "until": ("export", "replay"),
    "target": ("export", "replay"),
    "code": ("export",),
    "failed": ("export",),
    "limit": ("export",),
    "rate": ("replay",),
    "backfill": ("replay",),
    "anew": ("replay",),
    "dry_run": ("replay",),
    "yes": ("replay",),
    "who": ("replay",),
}


def parse_rate(text: str) -> float:
    """How many a second."""
    match = _RATE.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a rate (like 20/s, 600/m)")
    return float(match[1]) / _SECONDS[match[2]]


def configure(parser: Parser) -> None:
    parser.only = _ONLY
    parser.add_argument(
        "verb", choices=tuple(parser.verbs), metavar="VERB", help="list, export or replay"
    )
    which = parser.add_argument_group("which events (export, replay)")
    many = "; may be repeated"
    which.add_argument(
        "--match",
        action="append",
        type=value(parse_glob),
        metavar="PATTERN",
        help=f"whose key matches, as in routes.yaml{many}",
    )
    add_times(which)
    which.add_argument("--target", action="append", metavar="NAME", help=f"for this target{many}")
    which.add_argument(
        "--code",
        action="append",
        metavar="CODE",
        help=f"export: the reply's, a receiver's, or its HTTP status{many}",
    )
    which.add_argument("--failed", action="store_true", help="export: no 000, or a failed attempt")
    which.add_argument(
        "--limit", type=value(parse_count), metavar="N", help="export: so many at most"
    )
    acting = parser.add_argument_group("acting (replay)")
    acting.add_argument(
        "--rate", type=value(parse_rate), metavar="RATE", help=f"so many (default {RATE:g}/s)"
    )
    acting.add_argument(
        "--backfill", action="store_true", help="the events that the target was in no plan of"
    )
    acting.add_argument(
        "--anew", action="store_true", help="don't go on with the same that was stopped"
    )
    add_acting(acting)
    add_archive(parser)
    add_store(parser)
    add_settings(parser, "config", "secrets_dir")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    folder = read_archive(args)
    if folder is None:
        raise StartFailed("there is no archive: see --archive")
    mind_times(args)
    acts = {"list": _list, "export": _export, "replay": _replay}
    return acts[str(args.verb)](folder, args)


def _list(folder: Path, args: argparse.Namespace) -> int:
    from router.archive.trace.inventory import inventory

    found = inventory(folder, Progress("counted"), note)
    say_as(args.format, [_as_json(found)], _told(found))
    return GOOD


def _told(found: Inventory) -> Iterator[str]:
    if found.first is None or found.last is None:
        yield "the archive is empty"
        return
    number = found.codes.total()
    kept = "" if found.bodies == number else f", {found.bodies:,} with their bodies"
    yield from columns(
        [
            ("from", utc(found.first)),
            ("to", utc(found.last)),
            ("requests", f"{number:,}{kept}"),
            ("size", f"{counted(found.size, 'byte')} on the disk, {found.text:,} as text"),
            ("segments", f"{found.segments:,}" + (f", {found.cut:,} cut" if found.cut else "")),
        ]
    )
    for what, counts in (
        ("told", found.codes),
        ("target", found.targets),
        ("later", found.later),
    ):
        if counts.total():
            rows = [(what, f"{'lines':>10}"), *_rows(counts)]
            yield ""
            yield from columns(rows)


def _rows(counts: Any) -> list[tuple[str, str]]:
    return [(name or "gone", f"{count:>10,}") for name, count in counts.most_common() if count]


def _as_json(found: Inventory) -> dict[str, Any]:
    return {
        "kind": "archive",
        "first": None if found.first is None else utc(found.first),
        "last": None if found.last is None else utc(found.last),
        "requests": found.codes.total(),
        "bodies": found.bodies,
        "size": found.size,
        "text": found.text,
        "segments": found.segments,
        "cut": found.cut,
        "codes": found.codes,
        "targets": found.targets,
        "later": found.later,
    }


def _export(folder: Path, args: argparse.Namespace) -> int:
    from router.archive.trace.events import events

    mind_targets(args.target or (), read_setting(args, "config"), folder)
    left, without = args.limit or sys.maxsize, 0
    for told in events(folder, question_of(args), Progress("looked through"), note):
        if told.body is None:
            without += 1
            continue
        if left == 0:
            break
        left -= 1
        # Line breaks stand between a body's members; within its texts they are escaped.
        say(told.body.replace("\r", " ").replace("\n", " "))
    if without:
        note(f"{counted(without, 'event')} left out: without a body")
    return GOOD


def _replay(folder: Path, args: argparse.Namespace) -> int:
    from router.cli.history.replaying import replay

    heed_ctrl_c()
    with opened_ops(args) as (runner, ops):
        return replay(runner, ops, folder, args, args.rate or RATE)
