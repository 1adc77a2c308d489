"""`diff`: the effect of a change of routes.yaml on events."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from router.cli.check import Input, add_config, all_usable, check_stdin, read_cases, read_config
from router.cli.options import STDIN, Exit, Help, Parser, stdin
from router.cli.printing import columns, counted, few, note, quoted, say_as
from router.config.comparison import Change, Comparison, Edit, Group, Move, edits_of
from router.config.document import shown
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import SettingInvalid
from router.model.event import FIELDS, Event
from router.routing.table import Route

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.loading import Config


DIFF = Help(
    about="""Compares what two configurations do with the same events: those of a tests file (by
    default the one beside NEW), or of real traffic: a file of events, of keys, or the router's own
    JSON log as it is. What is dangerous comes first: events that no route matches any more, then
    required targets that become optional. Also says what else differs: targets, routes, settings.
    One of OLD, NEW and --events may be '-', stdin.""",
    examples=(
        "git show HEAD:config/routes.yaml | ebaas-router diff - config/routes.yaml",
        "ebaas-router diff old.yaml new.yaml --tests config/routes.test.yaml",
        "ebaas-router diff old.yaml new.yaml --events week.jsonl",
        "kubectl logs deploy/router --since 168h | ebaas-router diff old.yaml new.yaml --events -",
    ),
    exit_codes={
        Exit.GOOD: "every event keeps its plan",
        Exit.BAD: "a plan differs, or a file is not valid",
    },
)


def configure_diff(parser: Parser) -> None:
    parser.add_argument("old", metavar="OLD", help="a routes.yaml, as it was")
    parser.add_argument("new", metavar="NEW", help="as it is to be")
    events = "lines with events, keys, or the router's JSON log"
    parser.option("--events", "FILE", events, many=True)
    tests = "a tests file (default the one beside NEW, if no --events)"
    parser.option("--tests", "FILE", tests, many=True)
    add_config(parser)


def run_diff(args: argparse.Namespace) -> int:
    check_stdin([args.old, args.new, *(args.events or ()), *(args.tests or ())])
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
    say_as(args.format, [_as_json(compared, edits)], _text(compared, edits))
    return Exit.BAD if compared.changed else Exit.GOOD


def _cases(args: argparse.Namespace, after: Input[Config]) -> list[Input[tuple[Case, ...]]]:
    """Read the tests files of --tests; without them and --events, those beside NEW."""
    from router.config.cases import beside, tests_of

    if args.tests is not None or args.events is not None:
        return [read_cases(name) for name in args.tests or ()]
    path = Path(args.new)
    if not after.files:
        return []
    files = [] if args.new == STDIN else tests_of(path)
    if not files:
        name = "" if args.new == STDIN or path.is_dir() else f" {beside(path)}"
        raise SettingInvalid(f"there is no tests file{name} beside NEW: give --tests or --events")
    return [read_cases(str(file)) for file in files]


# Events out of recorded traffic.

#: The longest line that is read, in bytes; twice the largest callback by default.
MAX_EVENT_LINE = 2 * 1024 * 1024


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

_UNMATCHED = {"reject": "a failure (500)", "accept": "accepted (000)"}

#: The effect of a move, of many events and of one.
_EFFECTS: dict[tuple[str | None, str | None], tuple[str, str]] = {
    ("required", "optional"): ("no longer require {}", "no longer requires {}"),
    ("required", None): ("lose {}", "loses {}"),
    ("optional", None): ("lose {}, which was optional", "loses {}, which was optional"),
}


def _text(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    for group in compared.groups():
        keys = f"{len(group.keys):,}+ keys" if group.more_keys else counted(len(group.keys), "key")
        yield f"{counted(group.events, 'event')} ({keys}): {_heading(group.change)}"
        moves = [(move.target, _roles(move)) for move in group.change.moves]
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
            owner = compared.owner(move.target)
            name = f"{move.target} ({owner})" if owner else move.target
            effect = _EFFECTS[move.before, move.after][events == 1].format(name)
            yield f"{events:,} of {total} {effect}"
    if compared.changed:
        yield f"{compared.changed:,} of {total} would get another plan"
    else:
        yield f"no plan changes: {total} compared"


def _heading(change: Change) -> str:
    if change.newly_unmatched:
        return f"newly unmatched, {_UNMATCHED[change.after]}"
    if not change.moves:
        return f"unmatched as before, {_UNMATCHED[change.before]} → {_UNMATCHED[change.after]}"
    if change.before != change.after:
        return f"newly matched, was {_UNMATCHED[change.before]}"
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
            {**_move_json(move), "owner": compared.owner(move.target), "events": events}
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


def _move_json(move: Move) -> dict[str, Any]:
    return {"name": move.target, "before": move.before, "after": move.after}


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "before": group.change.before,
        "after": group.change.after,
        "targets": [_move_json(move) for move in group.change.moves],
        "events": group.events,
        "keys": dict(group.keys.most_common()),
        "more_keys": group.more_keys,
        "routes_before": [route.name for route in group.before],
        "routes_after": [route.name for route in group.after],
    }
