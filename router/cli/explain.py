"""`explain` and `diff`: the plan of an event, and the plans that an edit of routes.yaml changes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from router.cli.check import (
    Input,
    add_config,
    all_usable,
    check_stdin,
    format_retries,
    read_cases,
    read_config,
)
from router.cli.options import STDIN, Exit, Help, Parser, read_file, read_setting, stdin
from router.cli.printing import columns, counted, few, note, quoted, say_as
from router.cli.remote import opened, read_url
from router.config.comparison import Change, Comparison, Edit, Group, Move, edits_of
from router.config.document import shown
from router.config.explaining import explained, refused
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import Refused, SettingInvalid, StartFailed
from router.model.event import FIELDS, Event
from router.routing.table import FieldMatch, Route

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.explaining import Explained, ExplainedRoute, ExplainedTarget, RefusedEvent
    from router.config.loading import Config

EXPLAIN = Help(
    about="""Shows what the router does with an event, by the code that the router itself runs: each
    route that matches, with the pattern that did; the nearest ones that don't, and which field
    stopped them; and the plan. KEY is the event's key; its four parts are the other fields. A whole
    event comes from a file by --event, and is checked as EBaaS's would be. With --url a running
    router says what it does with an event, by the configuration that it has in force.""",
    examples="""
        ebaas-router explain a.gs.cert.1
        ebaas-router explain --event event.json
        ebaas-router explain a.gs.cert.1 --url http://router:8081 --token-file ops-token""",
    good="explained, also where no route matches",
    bad="a configuration that is not valid, or an event that the router would refuse",
    not_started="the router is not there or can't be read",
)


def configure_explain(parser: Parser) -> None:
    parser.add_argument("key", nargs="?", metavar="KEY", help="the event's key, like a.gs.cert.1")
    parser.option("--event", "FILE", "a whole event instead; '-' is stdin")
    parser.switch("--all", "show every route, not the nearest only")
    parser.settings("config", "schema", "secrets_dir")
    parser.remote()
    parser.format()


def run_explain(args: argparse.Namespace) -> int:
    if (args.key is None) == (args.event is None):
        raise SettingInvalid("KEY or --event FILE has to be given, and one alone")
    if args.key == "":
        raise SettingInvalid("KEY: is empty")
    if args.schema is not None and args.event is None:
        raise SettingInvalid("--schema is for --event only")
    try:
        event = Event.of({"event_key": args.key}) if args.key else _read_event(args)
    except Refused as error:
        # A router is not asked: it might read other bytes.
        return _say(refused(error), args)
    if read_url(args) is not None or args.token_file is not None:
        question = {"key": args.key} if args.key else {"event": json.loads(event.body)}
        question |= {"all": True} if args.all else {}  # a team may not ask for all
        with opened(args) as router:
            return _say(router.post("/explain", question), args)
    config = read_config(str(read_setting(args, "config")), args)
    if not all_usable([config], args.format) or config.value is None:
        return Exit.BAD
    return _say(explained(event, config.value, whole=args.all), args)


def _say(result: Explained | RefusedEvent, args: argparse.Namespace) -> int:
    if "refused" in result:
        why = result["refused"]
        line = f"refused: EBaaS gets {why['code']} {why['msg']} ({why['why']})"
        say_as(args.format, [result], [line])
        return Exit.BAD
    say_as(args.format, [result], _text(result, by_key=args.event is None))
    return Exit.GOOD


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
    patterns = few([shown(pattern) for pattern in field["patterns"]], " or ")
    return field["field"], value, f"is not {patterns}{_STOPS}"


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


# `diff`.

DIFF = Help(
    about="""Compares what two configurations do with the same events: those of the tests
    files beside NEW, or of real traffic: a file of events, of keys, or the router's own
    JSON log as it is. What is dangerous comes first: events that no route matches any more, then
    required targets that become optional. Also says what else differs: targets, routes, settings.
    One of OLD, NEW and --events may be '-', stdin.""",
    examples="""
        git show HEAD:config/routes.yaml | ebaas-router diff - config/routes.yaml
        ebaas-router diff old.yaml new.yaml --events week.jsonl
        kubectl logs deploy/router --since 168h | ebaas-router diff old.yaml new.yaml --events -""",
    good="every event keeps its plan",
    bad="a plan differs, or a file is not valid",
)


def configure_diff(parser: Parser) -> None:
    parser.add_argument("old", metavar="OLD", help="a routes.yaml, as it was")
    parser.add_argument("new", metavar="NEW", help="as it is to be")
    events = "lines with events, keys, or the router's JSON log"
    parser.option("--events", "FILE", events, many=True)
    add_config(parser)


def run_diff(args: argparse.Namespace) -> int:
    check_stdin([args.old, args.new, *(args.events or ())])
    before, after = (read_config(name, args) for name in (args.old, args.new))
    cases = _cases(args, after)
    usable = all_usable([before, after, *cases], args.format)
    old, new = before.value, after.value
    if old is None or new is None or not usable:
        return Exit.BAD
    compared = Comparison(old, new)
    for case in (case for file in cases for case in file.value or ()):
        compared.add(case.event)
    for name in args.events or ():
        _add_traffic(name, compared)
    edits = edits_of(old, new)
    say_as(args.format, [_as_json(compared, edits)], _difference(compared, edits))
    return Exit.BAD if compared.changed else Exit.GOOD


def _cases(args: argparse.Namespace, after: Input[Config]) -> list[Input[tuple[Case, ...]]]:
    """Read the tests files beside NEW, unless --events has the events."""
    from router.config.cases import beside, tests_of

    if args.events is not None:
        return []
    path = Path(args.new)
    if not after.files:
        return []
    files = [] if args.new == STDIN else tests_of(path)
    if not files:
        name = "" if args.new == STDIN or path.is_dir() else f" {beside(path)}"
        raise SettingInvalid(f"there is no tests file{name} beside NEW: give --events")
    return [read_cases(str(file)) for file in files]


# Events out of recorded traffic.


def _add_traffic(name: str, compared: Comparison) -> None:
    before = compared.events
    try:
        opened = nullcontext(stdin()) if name == STDIN else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise SettingInvalid(f"--events: {name!r} can't be read: {error.strerror}") from None
    with opened as stream:
        traffic = Traffic(stream)
        for event, times in traffic:
            compared.add(event, times)
    if compared.events == before:
        raise SettingInvalid(
            "--events: no line of it has an event or a key; a router's log has them with "
            "--log-format json"
        )
    if traffic.skipped:
        have = "line has" if traffic.skipped == 1 else "lines have"
        note(f"--events: {traffic.skipped:,} {have} no event or key")


#: The longest line that is read, in bytes; twice the largest callback.
MAX_EVENT_LINE = 2 * 1024 * 1024


class Traffic:
    """The events in a stream of lines, each with its number.

    A line is an event as EBaaS sends it, a line of the router's log, or a key alone, as JSON or as
    it is. A collector may have put a time or a container's name before a `{`.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        #: Lines in none of these forms, so far; without blank lines and other lines of the log.
        self.skipped = 0

    def __iter__(self) -> Iterator[tuple[Event, int]]:
        while line := self._stream.readline(MAX_EVENT_LINE):
            try:
                if len(line) == MAX_EVENT_LINE and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = self._stream.readline(MAX_EVENT_LINE)
                    raise Unreadable("too long")
                fields = _fields(line)
            except Unreadable:
                self.skipped += 1
            else:
                # A line of the log may stand for many events that no route matched.
                count = fields.get("count") if fields.get("happening") == "unmatched" else 1
                if fields:
                    yield Event.of(fields), count if isinstance(count, int) else 1


def _fields(line: bytes) -> dict[str, Any]:
    """Return the fields of an event, empty for a line about something else. Raises Unreadable."""
    start = line.find(b"{")
    if start < 0 or line.lstrip().startswith(b'"'):
        text = line.decode("utf-8", "replace").strip()
        if text.startswith('"'):
            text = str(parse_json(text.encode(), ROUTER))
        elif len(text.split()) > 1 or text.startswith("["):
            raise Unreadable("no key")
        return {"event_key": text} if text else {}
    fields = parse_json(line[start:], ROUTER)
    if fields.get("happening", "event") not in ("event", "unmatched"):
        return {}
    values = [fields.get(name) or "" for name in FIELDS]
    if all(isinstance(value, str) for value in values) and (values[4] or all(values[:4])):
        return dict(fields)
    raise Unreadable("no key")


# The result.

_REPLIES = {"reject": "a failure (500)", "accept": "accepted (000)"}

#: The effect of a move, of many events and of one.
_EFFECTS: dict[tuple[str | None, str | None], tuple[str, str]] = {
    ("required", "optional"): ("no longer require {}", "no longer requires {}"),
    ("required", None): ("lose {}", "loses {}"),
    ("optional", None): ("lose {}, which was optional", "loses {}, which was optional"),
}


def _difference(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    for group in compared.groups():
        keys = counted(len(group.keys), "key")
        yield f"{counted(group.events, 'event')} ({keys}): {_heading(group.change)}"
        moves = [(move.name, _roles(move)) for move in group.change.moves]
        yield from columns(moves, indent=2)
        seen = [
            shown(key) + (f" ({times:,} times)" if times > 1 else "")
            for key, times in group.keys.most_common()
        ]
        yield f"  keys    {few(seen)}"
        if why := _why(group):
            yield f"  routes  {why}"
        yield ""
    for title, kind in (("targets", "target"), ("routes", "route"), ("settings", "settings")):
        rows = [row for edit in edits if edit.kind == kind for row in _rows(edit)]
        if rows:
            yield f"{title} that differ:"
            yield from columns(rows, indent=2)
            yield ""
    routes = [edit.name for edit in edits if edit.kind == "route"]
    if untried := [name for name in routes if name not in compared.matched]:
        yield f"no event that was compared matches {quoted(untried)}"
    total = counted(compared.events, "event")
    for move, events in compared.moves():
        if move.is_loss:
            owner = compared.owner(move.name)
            name = f"{move.name} ({owner})" if owner else move.name
            effect = _EFFECTS[move.before, move.after][events == 1].format(name)
            yield f"{events:,} of {total} {effect}"
    if compared.changed:
        yield f"{compared.changed:,} of {total} would get another plan"
    else:
        yield f"no plan changes: {total} compared"


def _heading(change: Change) -> str:
    if change.newly_unmatched:
        return f"newly unmatched, {_REPLIES[change.after]}"
    if not change.moves:
        return f"unmatched as before, {_REPLIES[change.before]} → {_REPLIES[change.after]}"
    if change.before != change.after:
        return f"newly matched, was {_REPLIES[change.before]}"
    return _roles(change.moves[0])


def _roles(move: Move) -> str:
    absent = "not in the plan"
    return f"{move.before or absent} → {move.after or absent}"


def _why(group: Group) -> str:
    """Format the routes of the group's first event that come, go, or have other targets."""
    old, new = ({route.name: route for route in routes} for routes in (group.before, group.after))
    edited = [
        name for name in old.keys() & new.keys() if _targets(old[name]) != _targets(new[name])
    ]
    reasons = (
        ("no longer", old.keys() - new.keys()),
        ("now", new.keys() - old.keys()),
        ("with other targets", edited),
    )
    return "; ".join(f"{verb} {quoted(sorted(names))}" for verb, names in reasons if names)


def _targets(route: Route) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(route.required), frozenset(route.optional)


def _rows(edit: Edit) -> Iterator[tuple[str, ...]]:
    name = [shown(edit.name) if edit.kind == "route" else edit.name] if edit.name else []
    if not edit.details:
        yield *name, edit.what, ""
    for detail in edit.details:
        yield *name, detail.name, str(detail)


def _as_json(compared: Comparison, edits: Sequence[Edit]) -> dict[str, Any]:
    return {
        "events": compared.events,
        "changed": compared.changed,
        "targets": [
            {**move._asdict(), "owner": compared.owner(move.name), "events": events}
            for move, events in compared.moves()
        ],
        "groups": [_group_json(group) for group in compared.groups()],
        "edits": [
            {
                "kind": edit.kind,
                "name": edit.name,
                "what": edit.what,
                "details": {name: {"before": old, "after": new} for name, old, new in edit.details},
            }
            for edit in edits
        ],
    }


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "before": group.change.before,
        "after": group.change.after,
        "targets": [move._asdict() for move in group.change.moves],
        "events": group.events,
        "keys": dict(group.keys.most_common()),
        "routes_before": [route.name for route in group.before],
        "routes_after": [route.name for route in group.after],
    }
