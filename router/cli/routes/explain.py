"""`explain`: which routes an event matches and why the others don't, and its plan."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.cli.history.places import Progress, add_archive, read_archive
from router.cli.options import (
    BAD,
    GOOD,
    NOT_STARTED,
    STDIN,
    Help,
    add_format,
    add_settings,
    mind_target,
    read_setting,
    stdin,
    value,
)
from router.cli.printing import note, say_as
from router.cli.remote import Remote, add_remote, read_remote
from router.cli.routes.inputs import read_config, usable
from router.config.settings import parse_count
from router.model.errors import Refused, SettingInvalid, StartFailed
from router.model.event import Event

if TYPE_CHECKING:
    from router.cli.routes.reaching import Reach
    from router.config.explaining import Explained, RefusedEvent
    from router.config.loading import Config
    from router.contract.intake import Intake

HELP = Help(
    about="""Tells what the router does with an event, by the code that the router itself runs: each
    route that matches, with the pattern that did; the nearest ones that don't, and which field
    stopped them; and the plan. KEY is the event's key; its four parts are the other fields. A whole
    event comes from a file by --event, and is checked as EBaaS's would be. With --target it is the
    other way round: what does this target get, by which routes, and which of the last requests in
    the archive would go to it? With --url a running router tells what it does with an
    event, by the configuration that it has in force.""",
    examples=(
        "ebaas-router explain a.gs.cert.1",
        "ebaas-router explain a.gs.cert.1 --all --config config/routes.yaml",
        "ebaas-router explain --event event.json",
        "ebaas-router explain a.gs.cert.1 --url http://router:8081 --token-file ops-token",
        "ebaas-router explain --target ledger",
    ),
    exit_codes={
        GOOD: "explained, also where no route matches",
        BAD: "a configuration that is not valid, or an event that the router would refuse",
        NOT_STARTED: "the archive or the router is not there or can't be read",
    },
)

#: How many of the last requests are looked at for a target, unless told otherwise.
_LAST = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", metavar="KEY", help="the event's key, like a.gs.cert.1")
    parser.add_argument("--event", metavar="FILE", help="a whole event instead; '-' is stdin")
    parser.add_argument("--target", metavar="NAME", help="a target instead: what it gets")
    where = parser.add_argument_group("which events (--target)")
    add_archive(where)
    where.add_argument(
        "--last",
        type=value(parse_count),
        metavar="N",
        help=f"look at so many requests, the newest first (default {_LAST:,})",
    )
    parser.add_argument("--all", action="store_true", help="show every route, not the nearest only")
    add_settings(parser, "config", "schema", "secrets_dir")
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if [args.key, args.event, args.target].count(None) != 2:
        raise SettingInvalid("KEY, --event FILE or --target NAME has to be given, and one alone")
    if args.key == "":
        raise SettingInvalid("KEY: is empty")
    _refuse_others(args)
    remote = read_remote(args)
    if remote is not None:
        return _tell(_afar(remote, args), args)
    found = read_config(str(read_setting(args, "config")), args)
    loaded = usable(found, args.format)
    if loaded is None:
        return BAD
    if args.target is not None:
        _tell_target(loaded, found.name, args)
        return GOOD
    return _tell(_here(loaded, args), args)


def _refuse_others(args: argparse.Namespace) -> None:
    """Raises SettingInvalid for an option that is for another way to ask."""
    for way, options in (("target", ("archive", "last")), ("event", ("schema",))):
        given = [option for option in options if getattr(args, option) is not None]
        if given and getattr(args, way) is None:
            raise SettingInvalid(f"--{given[0]} is for --{way} only")


def _tell(said: Explained | RefusedEvent, args: argparse.Namespace) -> int:
    if "refused" in said:
        why = said["refused"]
        refused = f"refused: EBaaS gets {why['code']} {why['msg']} ({why['why']})"
        say_as(args.format, [said], [refused])
        return BAD
    from router.cli.routes.explanation import told

    say_as(args.format, [said], told(said, by_key=args.event is None))
    return GOOD


def _here(loaded: Config, args: argparse.Namespace) -> Explained | RefusedEvent:
    from router.config.explaining import explained, refused

    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        return refused(error)
    return explained(event, loaded, whole=args.all)


def _afar(remote: Remote, args: argparse.Namespace) -> Explained | RefusedEvent:
    """What is no event is not sent: the router might read other bytes than these."""
    from router.config.explaining import Explained, RefusedEvent, refused

    if args.target is not None:
        raise SettingInvalid("--target is for a routes.yaml on this machine, and not for --url")
    asked: dict[str, Any] = {"all": True} if args.all else {}
    if args.key:
        asked["key"] = args.key
    else:
        try:
            asked["event"] = json.loads(_read_event(args).body)
        except Refused as error:
            return refused(error)
    said: Explained | RefusedEvent = remote.post("/explain", Explained | RefusedEvent, asked)
    return said


def _tell_target(loaded: Config, file: str, args: argparse.Namespace) -> None:
    from router.cli.routes.reaching import as_json, told

    mind_target(args.target, loaded.table.targets, file)
    reach = _reach(loaded, args)
    shape = as_json(args.target, loaded, reach)
    say_as(args.format, [shape], told(args.target, loaded, reach))


def _reach(loaded: Config, args: argparse.Namespace) -> Reach | None:
    """None where there is nothing to look into."""
    from router.archive.trace.sources import Sources
    from router.cli.routes.reaching import reach_of

    archive = read_archive(args)
    if archive is None:
        return None
    sources = Sources(archive, Progress("looked through"), note)
    return reach_of(args.target, loaded, sources, args.last or _LAST)


def _read_event(args: argparse.Namespace) -> Event:
    try:
        body = stdin().read() if args.event == STDIN else Path(args.event).read_bytes()
    except OSError as error:
        raise SettingInvalid(f"--event: {args.event!r} can't be read: {error.strerror}") from None
    return _intake(args).read(body)


def _intake(args: argparse.Namespace) -> Intake:
    from router.contract.intake import Intake

    own = read_setting(args, "schema")
    try:
        return Intake.of(own)
    except StartFailed as error:
        raise SettingInvalid(f"--schema: {error}") from None
