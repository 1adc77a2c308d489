"""`explain`: the routes that match an event, why the others do not, and the plan."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from router.cli.check import all_usable, format_retries, read_config
from router.cli.options import Exit, Help, Parser, read_file, read_setting
from router.cli.printing import columns, counted, few, quoted, say_as
from router.cli.remote import Remote, add_remote, opened, read_url
from router.config.document import shown
from router.config.explaining import (
    Explained,
    ExplainedRoute,
    ExplainedTarget,
    RefusedEvent,
    explained,
    refused,
)
from router.model.errors import Refused, SettingInvalid, StartFailed
from router.model.event import FIELDS, Event
from router.routing.table import FieldMatch

EXPLAIN = Help(
    about="""Shows what the router does with an event, by the code that the router itself runs: each
    route that matches, with the pattern that did; the nearest ones that don't, and which field
    stopped them; and the plan. KEY is the event's key; its four parts are the other fields. A whole
    event comes from a file by --event, and is checked as EBaaS's would be. With --url a running
    router says what it does with an event, by the configuration that it has in force.""",
    examples=(
        "ebaas-router explain a.gs.cert.1",
        "ebaas-router explain a.gs.cert.1 --all --config config/routes.yaml",
        "ebaas-router explain --event event.json",
        "ebaas-router explain a.gs.cert.1 --url http://router:8081 --token-file ops-token",
    ),
    exit_codes={
        Exit.GOOD: "explained, also where no route matches",
        Exit.BAD: "a configuration that is not valid, or an event that the router would refuse",
        Exit.NOT_STARTED: "the router is not there or can't be read",
    },
)


def configure_explain(parser: Parser) -> None:
    parser.add_argument("key", nargs="?", metavar="KEY", help="the event's key, like a.gs.cert.1")
    parser.option("--event", "FILE", "a whole event instead; '-' is stdin")
    parser.switch("--all", "show every route, not the nearest only")
    parser.settings("config", "schema", "secrets_dir")
    add_remote(parser)
    parser.format()


def run_explain(args: argparse.Namespace) -> int:
    if (args.key is None) == (args.event is None):
        raise SettingInvalid("KEY or --event FILE has to be given, and one alone")
    if args.key == "":
        raise SettingInvalid("KEY: is empty")
    if args.schema is not None and args.event is None:
        raise SettingInvalid("--schema is for --event only")
    if read_url(args) is not None or args.token_file is not None:
        with opened(args) as router:
            return _say(_remotely(router, args), args)
    config = read_config(str(read_setting(args, "config")), args)
    if not all_usable([config], args.format) or config.value is None:
        return Exit.BAD
    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        return _say(refused(error), args)
    return _say(explained(event, config.value, whole=args.all), args)


def _say(result: Explained | RefusedEvent, args: argparse.Namespace) -> int:
    if "refused" in result:
        why = result["refused"]
        line = f"refused: EBaaS gets {why['code']} {why['msg']} ({why['why']})"
        say_as(args.format, [result], [line])
        return Exit.BAD
    say_as(args.format, [result], _text(result, by_key=args.event is None))
    return Exit.GOOD


def _remotely(router: Remote, args: argparse.Namespace) -> Explained | RefusedEvent:
    """Ask a running router. A refused event is not sent: the router might read other bytes."""
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
    from router.contract.intake import Intake

    body = read_file(args.event, "--event")
    try:
        intake = Intake.of(read_setting(args, "schema"))
    except StartFailed as error:
        raise SettingInvalid(f"--schema: {error}") from None
    return intake.read(body)


_UNMATCHED = {
    "reject": "unmatched: reject. EBaaS gets the code 500, and sends the event again",
    "accept": "unmatched: accept. EBaaS gets its 000, and the event goes nowhere",
}


def _text(explained: Explained, *, by_key: bool) -> Iterator[str]:
    """Format an explanation. `by_key` is true if the command line had only the key."""
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
        rows = [_field(field) for field in route["fields"]]
        for field in route["except"]:
            name, value, match = _field(field)
            rows.append((f"except {name}", value, match + _STOPS))
        yield from columns(rows, indent=6)


#: Marks the reason that a route does not match.
_STOPS = "   <-- this stops it"


def _field(field: FieldMatch) -> tuple[str, str, str]:
    value = shown(field["value"]) if field["value"] else "(unknown)"
    if field["pattern"] is not None:
        return field["field"], value, f"matches {shown(field['pattern'])}"
    return field["field"], value, f"is not {_alternatives(field['patterns'])}{_STOPS}"


def _alternatives(patterns: Sequence[str]) -> str:
    return few([shown(pattern) for pattern in patterns], " or ")


def _planned(target: ExplainedTarget) -> tuple[str, ...]:
    required, optional = quoted(target["required_by"]), quoted(target["optional_by"])
    paused = "; paused: it gets nothing" if target["paused"] else ""
    if not target["required_by"]:
        retries = format_retries(target["retries"], target["seconds"])
        return target["name"], "optional", f"by {optional}; {retries}{paused}"
    besides = f"; optional by {optional}" if target["optional_by"] else ""
    return target["name"], "required", f"by {required}{besides}{paused}"


def _routes(count: int, verb: str) -> str:
    """Format `1 route matches`, `2 routes match`."""
    plural = {"match": "matches", "do": "does"}
    return f"{counted(count, 'route')} {verb if count != 1 else plural[verb]}"
