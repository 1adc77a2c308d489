"""`explain`: the routes that match an event, and why; or the events that a target gets."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
from router.cli.routes.inputs import all_usable, read_config
from router.config.document import shown
from router.config.explaining import (
    Explained,
    ExplainedRoute,
    ExplainedTarget,
    RefusedEvent,
    explained,
    refused,
)
from router.config.settings import parse_count
from router.model.errors import Refused, SettingInvalid, StartFailed
from router.model.event import FIELDS, Event
from router.routing.table import FieldMatch, Role, Route
from router.telemetry.log.lines import utc

if TYPE_CHECKING:
    from router.archive.trace.lines import CallerInfo
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

#: The number of archived requests looked at for a target, by default.
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
            return _say(_remotely(router, args), args)
    config = read_config(str(read_setting(args, "config")), args)
    if not all_usable([config], args.format) or config.value is None:
        return BAD
    if args.target is not None:
        _say_target(config.value, config.name, args)
        return GOOD
    return _say(_locally(config.value, args), args)


def _refuse_others(args: argparse.Namespace) -> None:
    """Raises SettingInvalid for an option that needs another one."""
    for way, options in (("target", ("archive", "last")), ("event", ("schema",))):
        given = [option for option in options if getattr(args, option) is not None]
        if given and getattr(args, way) is None:
            raise SettingInvalid(f"--{given[0]} is for --{way} only")


def _say(result: Explained | RefusedEvent, args: argparse.Namespace) -> int:
    if "refused" in result:
        why = result["refused"]
        line = f"refused: EBaaS gets {why['code']} {why['msg']} ({why['why']})"
        say_as(args.format, [result], [line])
        return BAD
    say_as(args.format, [result], _text(result, by_key=args.event is None))
    return GOOD


def _locally(config: Config, args: argparse.Namespace) -> Explained | RefusedEvent:
    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        return refused(error)
    return explained(event, config, whole=args.all)


def _remotely(router: Remote, args: argparse.Namespace) -> Explained | RefusedEvent:
    """Ask a running router. A refused event is not sent: the router might read other bytes."""
    if args.target is not None:
        raise SettingInvalid("--target is for a routes.yaml on this machine, and not for --url")
    question: dict[str, Any] = {"all": True} if args.all else {}
    if args.key:
        question["key"] = args.key
    else:
        try:
            question["event"] = json.loads(_read_event(args).body)
        except Refused as error:
            return refused(error)
    answer: Explained | RefusedEvent = router.post("/explain", question)
    return answer


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


def _text(explained: Explained, *, by_key: bool) -> Iterator[str]:
    """Format an explanation; `by_key` if only the key was given."""
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
        nearest = f"; the nearest {len(others)}, --all shows every one" if left else ""
        yield ""
        yield f"{_routes(len(others) + left, 'do')} not match{nearest}:"
        yield from _matches(others)
    yield ""
    yield "plan:"
    if explained["unmatched"] is not None:
        yield f"  {_UNMATCHED[explained['unmatched']]}"
        return
    if not explained["targets"]:
        yield "  nothing for a target of yours"
    planned = sorted(explained["targets"], key=lambda target: not target["required_by"])
    yield from columns([_planned(target) for target in planned], indent=2)


def _event(event: Mapping[str, str], *, by_key: bool) -> Iterator[str]:
    key, values = event["event_key"], [event[field] for field in FIELDS[:4]]
    yield f"key     {shown(key)}"
    if not any(values):
        count = key.count(".") + 1
        parts = f"it has {counted(count, 'part')}, not four"
        why = "its four parts are empty" if count == 4 else parts
        yield f"        {why}: the other fields are unknown, and taken as empty;"
        yield "        a whole event by --event has them"
        return
    names = (field.removeprefix("event_") for field in FIELDS)
    fields = ", ".join(f"{name} {shown(value)}" for name, value in zip(names, values, strict=False))
    origin = ", from the key's four parts" if by_key else ""
    yield f"fields  {fields}{origin}"
    if (derived := ".".join(values)) != key:
        yield f"        they would make the key {shown(derived)}, but the given one counts"


def _matches(routes: Sequence[ExplainedRoute]) -> Iterator[str]:
    for route in routes:
        yield f"  {shown(route['name'])}  {route['file']}:{route['line']}"
        yield from columns([_field(field) for field in route["fields"]], indent=6)


def _field(field: FieldMatch) -> tuple[str, ...]:
    value = shown(field["value"]) if field["value"] else "(unknown)"
    if field["pattern"] is not None:
        return field["field"], value, f"matches {shown(field['pattern'])}"
    return field["field"], value, f"is not {_alternatives(field['patterns'])}   <-- this stops it"


def _alternatives(patterns: Sequence[str]) -> str:
    return few([shown(pattern) for pattern in patterns], " or ")


def _planned(target: ExplainedTarget) -> tuple[str, ...]:
    required, optional = quoted(target["required_by"]), quoted(target["optional_by"])
    paused = "; paused: it gets nothing" if target["paused"] else ""
    if not target["required_by"]:
        return target["name"], "optional", f"by {optional}{paused}"
    besides = f"; optional by {optional}" if target["optional_by"] else ""
    return target["name"], "required", f"by {required}{besides}{paused}"


def _routes(count: int, verb: str) -> str:
    """Format `1 route matches`, `2 routes match`."""
    plural = {"match": "matches", "do": "does"}
    return f"{counted(count, 'route')} {verb if count != 1 else plural[verb]}"


# The other way round: the routes and the last events of one target.

#: The most events that are shown.
_SHOWN = 10


class _Reached(NamedTuple):
    """An archived event that the configuration sends to the target."""

    caller: CallerInfo
    role: Role
    routes: tuple[Route, ...]


@dataclass(slots=True)
class _Reach:
    """The archived events that the target would get. It grows while the archive is read."""

    looked_at: int = 0
    #: The time of the oldest event looked at; Unix time, in seconds.
    since: float | None = None
    roles: Counter[Role] = field(default_factory=Counter)
    #: The newest events.
    newest: list[_Reached] = field(default_factory=list)


def _say_target(config: Config, file: str, args: argparse.Namespace) -> None:
    from router.config.effective import effective_of

    require_target(args.target, config.table.targets, file)
    reach = _reach(config, args)
    target = {"name": args.target, **effective_of(config)["targets"][args.target]}
    routes = [
        (route, role)
        for route in config.table.routes_as_written
        if (role := _role(args.target, route))
    ]
    shape = {
        "target": target,
        "routes": [_route_json(route, role) for route, role in routes],
        "events": _reach_json(reach) if reach else None,
    }
    say_as(args.format, [shape], _target_text(target, routes, reach))


def _role(target: str, route: Route) -> Role | None:
    if target in route.required:
        return "required"
    return "optional" if target in route.optional else None


def _reach(config: Config, args: argparse.Namespace) -> _Reach | None:
    """Match the last archived events; None without an archive. Raises OSError."""
    from router.archive.reading import Sources
    from router.archive.trace.lines import CallerInfo
    from router.archive.trace.question import Question

    archive = read_archive(args)
    if archive is None:
        return None
    reach = _Reach()
    lines = Sources(archive, Progress("looked through"), note).look(Question())
    callers = (line for line in lines if isinstance(line, CallerInfo))
    for caller in islice(callers, args.last or _LAST):
        reach.looked_at += 1
        reach.since = caller.at
        plan = config.table.match(caller.event)
        if role := plan.roles.get(args.target):
            reach.roles[role] += 1
            if len(reach.newest) < _SHOWN:
                reach.newest.append(_Reached(caller, role, plan.giving(args.target)))
    return reach


def _target_text(
    target: Mapping[str, Any], routes: Sequence[tuple[Route, Role]], reach: _Reach | None
) -> Iterator[str]:
    owner = f"  owner {target['owner']}" if "owner" in target else ""
    yield f"{target['name']}  {target['url']}{owner}"
    if target.get("paused"):
        yield "the target is paused: it gets nothing"
    yield ""
    lead = "leads" if len(routes) == 1 else "lead"
    yield f"{counted(len(routes), 'route')} {lead} to it:" if routes else "no route leads to it"
    for route, role in routes:
        yield f"  {shown(route.name)}  {route.where}  {role}"
        rows = [(field, _alternatives(patterns)) for field, patterns in route.match.items()]
        yield from columns(rows, indent=6)
    yield ""
    yield from _reach_text(reach)


def _reach_text(reach: _Reach | None) -> Iterator[str]:
    if reach is None or reach.since is None:
        why = "nothing is archived yet" if reach else "there is no archive here"
        yield f"no events to look at: {why}"
        return
    roles = ", ".join(f"{count:,} {role}" for role, count in sorted(reach.roles.items()))
    number, total = f"{reach.roles.total():,}", counted(reach.looked_at, "request")
    counts = f": {roles}" if roles else ""
    yield f"it would get {number} of the last {total}, back to {utc(reach.since)}{counts}"
    rows = [
        (
            utc(caller.at),
            shown(caller.event_key),
            role,
            f"by {quoted([one.name for one in routes])}",
        )
        for caller, role, routes in reach.newest
    ]
    yield from columns(rows, indent=2)


def _route_json(route: Route, role: Role) -> dict[str, Any]:
    return {
        "name": route.name,
        "file": route.file,
        "line": route.line,
        "as": role,
        "match": {field: list(patterns) for field, patterns in route.match.items()},
    }


def _reach_json(reach: _Reach) -> dict[str, Any]:
    return {
        "looked_at": reach.looked_at,
        "since": utc(reach.since) if reach.since is not None else None,
        "required": reach.roles["required"],
        "optional": reach.roles["optional"],
        "newest": [
            {
                "time": utc(caller.at),
                "event_id": caller.event_id,
                "event_key": caller.event_key,
                "as": role,
                "routes": [route.name for route in routes],
            }
            for caller, role, routes in reach.newest
        ],
    }
