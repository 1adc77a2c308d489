"""`explain`: which routes an event matches and why the others don't, and its plan."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.cli.options import BAD, GOOD, NOT_STARTED, Help, add_settings, read_setting
from router.cli.printing import say, say_json
from router.cli.remote import Remote, add_remote, read_remote
from router.cli.routes.inputs import STDIN, add_format, read_config, stdin, usable
from router.model import Event, Refused, SettingInvalid, StartFailed

if TYPE_CHECKING:
    from router.config import Explained, RefusedEvent
    from router.contract.intake import Intake

SUMMARY = "say which routes an event matches, why the others don't, and its plan"

HELP = Help(
    about="""Tells what the router does with an event, by the code that the router itself runs: each
    route that matches, with the pattern that did; the nearest ones that don't, and which field
    stopped them; and the plan. KEY is the event's key; its four parts are the other fields. A whole
    event comes from a file by --event, and is checked as EBaaS's would be. With --url a running
    router tells it by the configuration that it has in force.""",
    examples=(
        "ebaas-router explain a.gs.cert.1",
        "ebaas-router explain a.gs.cert.1 --all --config config/routes.yaml",
        "ebaas-router explain --event event.json",
        "ebaas-router explain a.gs.cert.1 --url http://router:8081 --token-file ops-token",
    ),
    exit_codes={
        GOOD: "explained, also where no route matches",
        BAD: "a configuration that is not valid, or an event that the router would refuse",
        NOT_STARTED: "the router is not there, or can't be asked",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    parser.add_argument("key", nargs="?", metavar="KEY", help="the event's key, like a.gs.cert.1")
    parser.add_argument("--event", metavar="FILE", help="a whole event instead; '-' is stdin")
    parser.add_argument("--all", action="store_true", help="show every route, not the nearest only")
    add_settings(parser, "config", "schema", "secrets_dir")
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if (args.key is None) == (args.event is None):
        raise SettingInvalid("KEY or --event FILE has to be given, and not both")
    if args.key == "":
        raise SettingInvalid("KEY: is empty")
    remote = read_remote(args)
    found = _afar(remote, args) if remote is not None else _here(args)
    if found is None:
        return BAD
    said, file = found
    if args.format == "json":
        say_json(said)
    elif "refused" in said:
        why = said["refused"]
        say(f"refused: EBaaS gets {why['code']} {why['msg']} ({why['why']})")
    else:
        from router.cli.routes.explanation import told

        for line in told(said, file, by_key=args.event is None):
            say(line)
    return BAD if "refused" in said else GOOD


def _here(args: argparse.Namespace) -> tuple[Explained | RefusedEvent, str] | None:
    """What is to be said, and how routes.yaml is called; None where that can't be used."""
    from router.config import explained, refused

    found = read_config(str(read_setting(args, "config")), args)
    loaded = usable(found, args.format)
    if loaded is None:
        return None
    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        return refused(error), found.name
    return explained(event, loaded, whole=args.all), found.name


def _afar(remote: Remote, args: argparse.Namespace) -> tuple[Explained | RefusedEvent, str]:
    """What is no event is not sent: the router might read other bytes than these."""
    from router.config import Explained, RefusedEvent, refused

    asked: dict[str, Any] = {"all": True} if args.all else {}
    if args.key:
        asked["key"] = args.key
    else:
        try:
            asked["event"] = json.loads(_read_event(args).body)
        except Refused as error:
            return refused(error), ""
    said: Explained | RefusedEvent = remote.post("/explain", Explained | RefusedEvent, asked)
    return said, "routes.yaml"


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
