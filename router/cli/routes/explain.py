"""`explain`: which routes match an event, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.cli.columns import columns, counted, few, quoted
from router.cli.options import (
    BAD,
    GOOD,
    NOT_STARTED,
    STDIN,
    Help,
    add_format,
    add_settings,
    read_setting,
    require_target,
    stdin,
    value,
)
from router.cli.printing import Progress, note, say_as
from router.cli.remote import (
    Remote,
    add_archive,
    add_remote,
    opened,
    read_archive,
    read_url,
)
from router.cli.routes.inputs import read_config, usable
from router.config.document import shown
from router.config.explaining import Explained, ExplainedField, ExplainedRoute, ExplainedTarget
from router.config.settings import parse_count
from router.model.errors import Refused, SettingInvalid, StartFailed
from router.model.event import FIELDS, Event

if TYPE_CHECKING:
    from router.cli.routes.reaching import Reach
    from router.config.explaining import RefusedEvent
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
    if read_url(args) is not None or args.token_file is not None:
        with opened(args) as router:
            return _tell(_running(router, args), args)
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

    say_as(args.format, [said], told(said, by_key=args.event is None))
    return GOOD


def _here(loaded: Config, args: argparse.Namespace) -> Explained | RefusedEvent:
    from router.config.explaining import explained, refused

    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        return refused(error)
    return explained(event, loaded, whole=args.all)


def _running(router: Remote, args: argparse.Namespace) -> Explained | RefusedEvent:
    """What is no event is not sent: the router might read other bytes than these."""
    from router.config.explaining import refused

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
    said: Explained | RefusedEvent = router.post("/explain", asked)
    return said


def _tell_target(loaded: Config, file: str, args: argparse.Namespace) -> None:
    from router.cli.routes.reaching import as_json, told

    require_target(args.target, loaded.table.targets, file)
    reach = _reach(loaded, args)
    shape = as_json(args.target, loaded, reach)
    say_as(args.format, [shape], told(args.target, loaded, reach))


def _reach(loaded: Config, args: argparse.Namespace) -> Reach | None:
    """None where there is nothing to look into."""
    from router.archive.reading import Sources
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


_UNMATCHED = {
    "reject": "unmatched: reject. EBaaS gets the code 500, and sends the event again",
    "accept": "unmatched: accept. EBaaS gets its 000, and the event goes nowhere",
}


def told(explained: Explained, *, by_key: bool) -> Iterator[str]:
    """`by_key` where no more than that was given."""
    matching = [route for route in explained["routes"] if route["matched"]]
    others = [route for route in explained["routes"] if not route["matched"]]
    yield from _event(explained["event"], by_key=by_key)
    yield ""
    # To a team an event that others' routes match is neither matched nor unmatched.
    to_whom = "" if explained["unmatched"] else " to a target of yours"
    yield f"{_routes(len(matching), 'match')}:" if matching else f"no route{to_whom} matches"
    yield from _matches(matching)
    if others:
        left = explained["left"]
        yield ""
        yield f"{_routes(len(others) + left, 'do')} not match{_which(len(others), left)}:"
        yield from _matches(others)
    yield ""
    yield "plan:"
    if explained["unmatched"] is None:
        if not explained["targets"]:
            yield "  nothing for a target of yours"
        planned = sorted(explained["targets"], key=lambda target: not target["required_by"])
        yield from columns([_planned(target) for target in planned], indent=2)
    else:
        yield f"  {_UNMATCHED[explained['unmatched']]}"


def _event(event: Mapping[str, str], *, by_key: bool) -> Iterator[str]:
    key, values = event["event_key"], [event[field] for field in FIELDS[:4]]
    yield f"key     {shown(key)}"
    if not any(values):
        count = key.count(".") + 1
        why = (
            "its four parts are empty"
            if count == 4
            else f"it has {counted(count, 'part')}, not four"
        )
        yield f"        {why}: the other fields are unknown, and taken as empty;"
        yield "        a whole event by --event has them"
        return
    names = (field.removeprefix("event_") for field in FIELDS)
    said = ", ".join(f"{name} {shown(value)}" for name, value in zip(names, values, strict=False))
    origin = ", from the key's four parts" if by_key else ""
    yield f"fields  {said}{origin}"
    if (derived := ".".join(values)) != key:
        yield f"        they would make the key {shown(derived)}, but the given one counts"


def _matches(routes: Sequence[ExplainedRoute]) -> Iterator[str]:
    for each in routes:
        yield f"  {shown(each['name'])}  {each['file']}:{each['line']}"
        yield from columns([_field(field) for field in each["fields"]], indent=6)


def _field(field: ExplainedField) -> tuple[str, ...]:
    value = shown(field["value"]) if field["value"] else "(unknown)"
    if field["pattern"] is not None:
        return field["field"], value, f"matches {shown(field['pattern'])}"
    patterns = few([shown(pattern) for pattern in field["patterns"]], " or ")
    return field["field"], value, f"is not {patterns}   <-- this stops it"


def _planned(target: ExplainedTarget) -> tuple[str, ...]:
    required, optional = quoted(target["required_by"]), quoted(target["optional_by"])
    paused = "; paused: it gets nothing" if target["paused"] else ""
    if not target["required_by"]:
        return target["name"], "optional", f"by {optional}{paused}"
    besides = f"; optional by {optional}" if target["optional_by"] else ""
    return target["name"], "required", f"by {required}{besides}{paused}"


def _routes(count: int, verb: str) -> str:
    """`1 route matches`, `2 routes match`."""
    plural = {"match": "matches", "do": "does"}
    return f"{counted(count, 'route')} {verb if count != 1 else plural[verb]}"


def _which(count: int, left: int) -> str:
    return f"; the nearest {count}, --all shows every one" if left else ""
