"""`trace`: what became of an event, by any id of it, also when everything was acknowledged."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from stat import S_ISDIR
from typing import IO, TYPE_CHECKING

from router.cli.columns import counted
from router.cli.deliveries.store import add_store, open_ops
from router.cli.options import BAD, GOOD, NOT_STARTED, Help, read_setting, value
from router.cli.printing import note, say, say_json
from router.cli.routes.inputs import STDIN, add_format, stdin
from router.cli.times import parse_moment
from router.config import SETTINGS, archive_folder, parse_count
from router.model import RouterError, SettingInvalid, StartFailed, why_not
from router.routing import Glob, GlobInvalid
from router.store import StoreFailed
from router.telemetry import utc

if TYPE_CHECKING:
    from router.archive import Match, Question, Sources, TraceSource
    from router.store import Ops

SUMMARY = "tell what became of an event, by any id of it"

HELP = Help(
    about="""Looks for events in the archive and in the store of the settings, and in logs, and
    tells one event whole: each request of EBaaS and what it was told, each attempt and what the
    receiver said, what was skipped and why, retries, replays, and what comes next. Several are a
    table, the newest first. WHAT is an event's id (webhook-id), a request's id, an event_key or a
    pattern of keys, an id in `changes`, a trace's id, or how the SHA-256 of a body begins (6
    characters at least); several mean any of them. Without WHAT the filters alone say which.""",
    examples=(
        "ebaas-router trace order-4711",
        "ebaas-router trace 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11 --body",
        "ebaas-router trace 'a.gs.*' --since 3h --target ledger --failed",
        "ebaas-router trace --code 700 --since 1d --format json",
        "docker logs router 2>&1 | ebaas-router trace order-4711 --log -",
    ),
    exit_codes={
        GOOD: "found",
        BAD: "no such event",
        NOT_STARTED: "what was to be looked into is not there or can't be read",
    },
)

#: How many events a table has unless told otherwise.
_LIMIT = 20

#: After how many seconds progress is told, and how often.
_PROGRESS = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="by what the event is known")
    which = parser.add_argument_group("which of them")
    many = "; may be repeated"
    which.add_argument(
        "--since", type=value(parse_moment), metavar="TIME", help="3h ago, or 2026-11-26T13:00:00Z"
    )
    which.add_argument("--until", type=value(parse_moment), metavar="TIME", help="and before that")
    which.add_argument("--target", action="append", metavar="NAME", help=f"of this target{many}")
    which.add_argument(
        "--code", action="append", metavar="CODE", help=f"the reply's, or a receiver's{many}"
    )
    which.add_argument("--failed", action="store_true", help="no 000, or a failed attempt")
    where = parser.add_argument_group("where to look (default: the archive and the store)")
    add_archive(where)
    add_store(parser)
    add_log(where)
    parser.add_argument(
        "--limit", type=value(parse_count), metavar="N", help=f"events (default {_LIMIT})"
    )
    parser.add_argument("--body", action="store_true", help="show bodies, which may be secret")
    add_format(parser)


def add_archive(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    setting = SETTINGS["archive"]
    parser.add_argument(
        setting.option,
        metavar=setting.metavar,
        help=f"the router's archive (default {setting.default}; {setting.variable})",
    )


def add_log(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log",
        action="append",
        metavar="FILE",
        help="the router's log in JSON, as it is or as Docker or journald wrap it; '-' is stdin; "
        "then nowhere else, unless it is named as well; may be repeated",
    )


def read_archive(args: argparse.Namespace) -> Path | None:
    """The archive's folder; None where there is none. StartFailed where one that was named is not
    there, and where nobody lets us see."""
    folder = archive_folder(read_setting(args, "archive"), read_setting(args, "store"))
    if folder is None or _is_there(folder):
        return folder
    if args.archive is not None:
        raise StartFailed("--archive: there is no such folder")
    return None


def _is_there(folder: Path) -> bool:
    try:
        return S_ISDIR(folder.stat().st_mode)
    except PermissionError as error:
        raise unreadable(folder, error) from None
    except OSError:
        return False


def unreadable(path: Path, error: PermissionError) -> StartFailed:
    return StartFailed(f"what is to be looked into can't be read: {why_not(path, error)}")


def run(args: argparse.Namespace) -> int:
    from router.archive import Sources, kept, matches

    question, limit = _question(args), args.limit or _LIMIT
    with asyncio.Runner() as runner, tempfile.TemporaryFile() as spool:
        ops = runner.run(_ops(args))
        try:
            archive = None if args.log and args.archive is None else read_archive(args)
            logs = [log_source(name, spool) for name in args.log or ()]
            sources = Sources(archive, logs, Progress("looked through"), note)
            stored = runner.run(kept(ops, question, limit + 1)) if ops is not None else ()
            found = matches(sources.look(question), stored)
            first, second = next(found, None), next(found, None)
            if first is None:
                _say_where(sources, ops is not None)
            elif second is None:
                _say_story(runner, first, sources, ops, args)
            else:
                _say_table(chain((first, second), found), limit, args)
            if sources.skipped:
                note(f"{counted(sources.skipped, 'line')} could not be read and were left out")
            return BAD if first is None else GOOD
        except PermissionError as error:
            raise unreadable(Path(error.filename), error) from None
        except StoreFailed as error:
            raise RouterError(f"the store failed: {error}") from None
        finally:
            if ops is not None:
                runner.run(ops.close())


def _question(args: argparse.Namespace) -> Question:
    from router.archive import Question, Word

    for text in (*args.what, *(args.target or ()), *(args.code or ())):
        if not text or text != text.encode("utf-8", "replace").decode():
            raise SettingInvalid("an argument is empty or not UTF-8")
    if not (args.what or args.target or args.code or args.failed or args.since or args.until):
        raise SettingInvalid("which event? Any id of it, a key or a pattern: trace WHAT")
    return Question(
        words=tuple(Word(text, _keys(text)) for text in args.what),
        since=args.since,
        until=args.until,
        targets=tuple(args.target or ()),
        codes=tuple(args.code or ()),
        failed=args.failed,
    )


def _keys(text: str) -> Glob:
    """The pattern that a word is; an id that can be none is the key that is spelled so."""
    try:
        return Glob(text)
    except GlobInvalid:
        return Glob(text.replace("[", "[[]"))


async def _ops(args: argparse.Namespace) -> Ops | None:
    """The store, where it is to be looked into and is there: one that was named has to be."""
    if read_setting(args, "store") is None or (args.log and args.store is None):
        return None
    try:
        return await open_ops(args)
    except StartFailed:
        if args.store is not None or SETTINGS["store"].variable in os.environ:
            raise
        return None


def log_source(name: str, spool: IO[bytes]) -> TraceSource:
    """The log of that name; `spool` holds what came on stdin. StartFailed where there is none."""
    from router.archive import TraceSource

    if name != STDIN:
        path = Path(name)
        if not path.is_file():
            raise StartFailed(f"--log: there is no file {path}")
        return TraceSource(f"the log {path.name}", lambda: path.open("rb"))
    # It is looked through twice.
    shutil.copyfileobj(stdin(), spool)

    def again() -> IO[bytes]:
        spool.seek(0)
        return os.fdopen(os.dup(spool.fileno()), "rb")

    return TraceSource("the log on stdin", again)


class Progress:
    """Tells on stderr how far something is that takes its time."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._told_at = time.monotonic()

    def __call__(self, how_far: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS:
            self._told_at = now
            note(f"{self._doing} {how_far}")


def _say_where(sources: Sources, with_store: bool) -> None:
    """One line: where was looked, and how far back each reaches."""
    places = [
        f"{name} ({f'back to {utc(since)}' if since is not None else 'nothing there'})"
        for name, since in sources.reach.items()
    ]
    if with_store:
        places.append("the store (what is not settled, or was within the hour)")
    where = ", ".join(places) or "no place: there is neither an archive nor a store"
    note(f"no such event; looked in {where}")


def _say_story(
    runner: asyncio.Runner,
    match: Match,
    sources: Sources,
    ops: Ops | None,
    args: argparse.Namespace,
) -> None:
    from router.archive import story_of, story_shape
    from router.cli.history.stories import story_told

    story = story_shape(runner.run(story_of(match, sources, ops)), body=args.body)
    if args.format == "json":
        say_json(story)
        return
    for text in story_told(story, time.time()):
        say(text)
    if args.body:
        say("")
        say(story["body"] if story["body"] is not None else "(its body was not kept)")


def _say_table(found: Iterator[Match], limit: int, args: argparse.Namespace) -> None:
    """Each as soon as it is found."""
    from router.archive import match_shape
    from router.cli.history.stories import MATCH_HEAD, match_told

    if args.format == "text":
        say(MATCH_HEAD)
    for each in islice(found, limit):
        match = match_shape(each, body=args.body)
        if args.format == "json":
            say_json(match)
            continue
        say(match_told(match))
        if body := match.get("body"):
            say(f"  {body}")
    if next(found, None) is not None and args.format == "text":
        say("and more: --limit, --since")
