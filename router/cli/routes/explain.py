"""`explain`: which routes an event matches and why the others don't, and its plan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from router.cli.options import BAD, GOOD, Help, add_settings, read_setting
from router.cli.printing import say, say_json
from router.cli.routes.inputs import STDIN, add_format, read_config, stdin, usable
from router.model import Event, Refused, SettingInvalid, StartFailed

if TYPE_CHECKING:
    from router.config import Config
    from router.contract.intake import Intake

SUMMARY = "say which routes an event matches, why the others don't, and its plan"

HELP = Help(
    about="""Tells what the router does with an event, by the code that the router itself runs: each
    route that matches, with the pattern that did; the nearest ones that don't, and which field
    stopped them; and the plan. KEY is the event's key; its four parts are the other fields. A whole
    event comes from a file by --event, and is checked as EBaaS's would be.""",
    examples=(
        "ebaas-router explain a.gs.cert.1",
        "ebaas-router explain a.gs.cert.1 --all --config config/routes.yaml",
        "ebaas-router explain --event event.json",
    ),
    exit_codes={
        GOOD: "explained, also where no route matches",
        BAD: "a configuration that is not valid, or an event that the router would refuse",
    },
)

#: How many of the routes that don't match are shown.
_NEAREST = 3


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    parser.add_argument("key", nargs="?", metavar="KEY", help="the event's key, like a.gs.cert.1")
    parser.add_argument("--event", metavar="FILE", help="a whole event instead; '-' is stdin")
    parser.add_argument("--all", action="store_true", help="show every route, not the nearest only")
    add_settings(parser, "config", "schema", "secrets_dir")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if (args.key is None) == (args.event is None):
        raise SettingInvalid("KEY or --event FILE has to be given, and not both")
    if args.key == "":
        raise SettingInvalid("KEY: is empty")
    found = read_config(str(read_setting(args, "config")), args)
    loaded = usable(found, args.format)
    if loaded is None:
        return BAD
    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        _tell_refused(error, args.format)
        return BAD
    _tell(event, loaded, found.name, args)
    return GOOD


def _tell(event: Event, loaded: Config, file: str, args: argparse.Namespace) -> None:
    from router.cli.routes.explanation import told
    from router.config import explained
    from router.routing import nearest_routes

    nearest = len(loaded.table.routes) if args.all else _NEAREST
    if args.format == "json":
        say_json(explained(event, loaded, nearest))
        return
    explanation = loaded.table.explain(event)
    others = nearest_routes(explanation.routes, nearest)
    for line in told(event, loaded, explanation, others, file):
        say(line)


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
