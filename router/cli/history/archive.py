"""`archive`: what was handled is listed, exported, and delivered again."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from router.cli.asking import URL_VARIABLE
from router.cli.columns import add_times, check_times, columns, counted
from router.cli.deliveries.acting import add_acting, parse_glob
from router.cli.history.finding import question_of, require_targets
from router.cli.history.replaying import replay
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
    value,
)
from router.cli.printing import note, say, say_as
from router.cli.remote import (
    Progress,
    add_archive,
    add_remote,
    add_store,
    opened,
    read_archive,
    read_url,
)
from router.config.settings import parse_count
from router.model.errors import SettingInvalid

HELP = Help(
    about="""Looks into the archive of a router. `list` and `replay` ask the router that runs on
    this machine, or the one at --url; `export` reads the archive's files here.""",
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
        "ebaas-router archive list --url http://router:8081 --token-file ops-token",
        "ebaas-router archive export --match 'a.gs.*' --since 3h >events.jsonl",
        "ebaas-router archive replay --target ledger --since 3h --dry-run",
        "ebaas-router archive replay --target ledger --match 'a.gs.*' --since 3h --rate 20/s",
        "ebaas-router archive replay --target new-team --backfill --since 2d --yes",
    ),
    exit_codes={
        GOOD: "done, or there was nothing to do",
        BAD: "a no to the question, stopped half-way, or the archive is damaged: see the count",
        NOT_STARTED: "the archive, the store or the router is not there or can't be used",
        INTERRUPTED: "Ctrl-C ended it; what is done stays done",
    },
)

#: How many a second are replayed, unless told otherwise.
RATE = 20.0

_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)/(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}

#: The options that only some verbs have.
_ONLY = {
    **dict.fromkeys(("url", "token_file", "ca"), ("list", "replay")),
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
        "verb",
        nargs="?",
        choices=tuple(parser.verbs),
        default="list",
        metavar="VERB",
        help="list, export or replay (default list)",
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
    add_settings(parser, "config")
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    check_times(args)
    if args.verb == "export":
        return _export(args)
    needs: Literal["archive", "both"] = "archive"
    if args.verb == "replay":
        heed_ctrl_c()
        needs = "both"
    with opened(args, needs=needs) as router:
        if args.verb == "replay":
            return replay(router, args, args.rate or RATE)
        return _tell(router.get("/archive"), args)


def _tell(found: Any, args: argparse.Namespace) -> int:
    say_as(args.format, [found], _told(found))
    if found["damage"]:
        note(f"{found['damage']}: there is more than this")
    return BAD if found["damage"] else GOOD


def _told(found: Any) -> Iterator[str]:
    if found["first"] is None or found["last"] is None:
        yield "the archive is empty"
        return
    number, bodies = found["requests"], found["bodies"]
    kept = "" if bodies == number else f", {bodies:,} with their bodies"
    size = f"{counted(found['size'], 'byte')} on the disk, {found['text']:,} as text"
    yield from columns(
        [
            ("from", found["first"]),
            ("to", found["last"]),
            ("requests", f"{number:,}{kept}"),
            ("size", size),
            ("segments", f"{found['segments']:,}"),
        ]
    )
    for what, counts in (
        ("told", found["codes"]),
        ("target", found["targets"]),
        ("later", found["later"]),
    ):
        if sum(counts.values()):
            rows = [(what, f"{'lines':>10}"), *_rows(counts)]
            yield ""
            yield from columns(rows)


def _rows(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    by_count = sorted(counts.items(), key=lambda each: each[1], reverse=True)
    return [(name or "gone", f"{count:>10,}") for name, count in by_count if count]


def _export(args: argparse.Namespace) -> int:
    """Of this machine's archive: its files are read as they are."""
    from router.archive.reading import Sources
    from router.archive.trace.replay import events

    if args.archive is None and read_url(args) is not None:
        raise SettingInvalid(
            f"{URL_VARIABLE} names a router, and export works on an archive of this machine: "
            "unset it, or name the archive by --archive"
        )
    with opened(args, needs="archive", is_here=True) as here:
        require_targets(here, args.target or ())
    folder = read_archive(args)
    assert folder is not None
    left, without = args.limit or sys.maxsize, 0
    sources = Sources(folder, Progress("looked through"), note)
    for told in events(sources, question_of(args)):
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
    if sources.damage:
        note(f"{sources.damage}: there may be more events than these")
    return BAD if sources.damage else GOOD
