"""`explain`: which routes an event matches and why the others don't, and its plan."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli.history.trace import Progress, add_archive, add_log, log_source, read_archive
from router.cli.options import (
    BAD,
    GOOD,
    NOT_STARTED,
    Help,
    add_settings,
    nearest_of,
    read_setting,
    value,
)
from router.cli.printing import note, say, say_json
from router.cli.routes.inputs import STDIN, add_format, read_config, stdin, usable
from router.config import parse_count
from router.model import Event, Refused, SettingInvalid, StartFailed

if TYPE_CHECKING:
    from router.cli.routes.reaching import Reach
    from router.config import Config
    from router.contract.intake import Intake

SUMMARY = "say which routes an event matches, why the others don't, and its plan"

HELP = Help(
    about="""Tells what the router does with an event, by the code that the router itself runs: each
    route that matches, with the pattern that did; the nearest ones that don't, and which field
    stopped them; and the plan. KEY is the event's key; its four parts are the other fields. A whole
    event comes from a file by --event, and is checked as EBaaS's would be. With --target it is the
    other way round: what does this target get, by which routes, and which of the last requests in
    the archive, or in a log, would go to it?""",
    examples=(
        "ebaas-router explain a.gs.cert.1",
        "ebaas-router explain a.gs.cert.1 --all --config config/routes.yaml",
        "ebaas-router explain --event event.json",
        "ebaas-router explain --target ledger",
        "kubectl logs deploy/router | ebaas-router explain --target ledger --log -",
    ),
    exit_codes={
        GOOD: "explained, also where no route matches",
        BAD: "a configuration that is not valid, or an event that the router would refuse",
        NOT_STARTED: "the archive or a log is not there or can't be read",
    },
)

#: How many of the routes that don't match are shown.
_NEAREST = 3

#: How many of the last requests are looked at for a target, unless told otherwise.
_LAST = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    parser.add_argument("key", nargs="?", metavar="KEY", help="the event's key, like a.gs.cert.1")
    parser.add_argument("--event", metavar="FILE", help="a whole event instead; '-' is stdin")
    parser.add_argument("--target", metavar="NAME", help="a target instead: what it gets")
    where = parser.add_argument_group("which events (--target)")
    add_archive(where)
    add_log(where)
    where.add_argument(
        "--last",
        type=value(parse_count),
        metavar="N",
        help=f"look at so many requests, the newest first (default {_LAST:,})",
    )
    parser.add_argument("--all", action="store_true", help="show every route, not the nearest only")
    add_settings(parser, "config", "schema", "secrets_dir")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if [args.key, args.event, args.target].count(None) != 2:
        raise SettingInvalid("KEY, --event FILE or --target NAME has to be given, and one alone")
    if args.key == "":
        raise SettingInvalid("KEY: is empty")
    found = read_config(str(read_setting(args, "config")), args)
    loaded = usable(found, args.format)
    if loaded is None:
        return BAD
    if args.target is not None:
        _tell_target(loaded, found.name, args)
        return GOOD
    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        _tell_refused(error, args.format)
        return BAD
    _tell(event, loaded, args)
    return GOOD


def _tell(event: Event, loaded: Config, args: argparse.Namespace) -> None:
    from router.cli.routes.explanation import told
    from router.config import explained
    from router.routing import nearest_routes

    nearest = len(loaded.table.routes) if args.all else _NEAREST
    if args.format == "json":
        say_json(explained(event, loaded, nearest))
        return
    explanation = loaded.table.explain(event)
    others = nearest_routes(explanation.routes, nearest)
    for line in told(event, loaded, explanation, others):
        say(line)


def _tell_target(loaded: Config, file: str, args: argparse.Namespace) -> None:
    from router.cli.routes.reaching import as_json, told

    targets = loaded.table.targets
    if args.target not in targets:
        raise SettingInvalid(
            f"--target: {file} has no {args.target!r}{nearest_of(args.target, targets)}"
        )
    reach = _reach(loaded, args)
    if args.format == "json":
        say_json(as_json(args.target, loaded, reach))
        return
    for line in told(args.target, loaded, reach):
        say(line)


def _reach(loaded: Config, args: argparse.Namespace) -> Reach | None:
    """None where there is nothing to look into."""
    from router.archive import Sources
    from router.cli.routes.reaching import reach_of

    archive = None if args.log and args.archive is None else read_archive(args)
    if archive is None and not args.log:
        return None
    with tempfile.TemporaryFile() as spool:
        logs = [log_source(name, spool) for name in args.log or ()]
        sources = Sources(archive, logs, Progress("looked through"), note)
        try:
            return reach_of(args.target, loaded, sources, args.last or _LAST)
        except PermissionError as error:
            raise StartFailed(f"what was named can't be read: {error.strerror}") from None


def _read_event(args: argparse.Namespace) -> Event:
    try:
        body = stdin().read() if args.event == STDIN else Path(args.event).read_bytes()
    except OSError as error:
        raise SettingInvalid(f"--event: {args.event!r} can't be read: {error.strerror}") from None
    return _intake(args).read(body)


def _intake(args: argparse.Namespace) -> Intake:
    from router.contract.intake import Intake
    from router.contract.schema import Schema, shipped_schema

    own = read_setting(args, "schema")
    try:
        schemas = [Schema.load(shipped_schema("callback.schema.json"))]
        return Intake(*schemas, *([Schema.load(own)] if own else []))
    except StartFailed as error:
        raise SettingInvalid(f"--schema: {error}") from None


def _tell_refused(error: Refused, format: str) -> None:
    from router.config import refused

    if format == "json":
        say_json(refused(error))
    else:
        say(f"refused: EBaaS gets {error.code} {error.msg} ({error.why})")
