"""`diff`: the effect of a change of routes.yaml on events."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from router.cli.annotations import CI_FORMATS, Annotation, Checked, say_checked
from router.cli.columns import columns, counted, few, quoted
from router.cli.options import BAD, GOOD, STDIN, Help, add_format, add_settings, stdin
from router.cli.printing import note, say_json, say_lines
from router.cli.routes.inputs import (
    Input,
    Traffic,
    add_without_secrets,
    all_usable,
    check_stdin,
    read_cases,
    read_config,
)
from router.config.comparison import Change, Comparison, Edit, Group, Move, edits_of
from router.config.document import shown
from router.model.errors import SettingInvalid
from router.routing.table import Route

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.loading import Config


HELP = Help(
    about="""Compares what two configurations do with the same events: those of a tests file (the
    one beside NEW unless told otherwise), or of real traffic: a file of events, of keys, or the
    router's own JSON log as it is. What is dangerous comes first: events that no route matches any
    more, then required targets that become optional. Also says what else differs: targets, routes,
    settings. --format markdown is a comment for a review. One of OLD, NEW and --events may be '-',
    stdin.""",
    examples=(
        "git show HEAD:config/routes.yaml | ebaas-router diff - config/routes.yaml",
        "ebaas-router diff old.yaml new.yaml --tests config/routes.test.yaml",
        "ebaas-router diff old.yaml new.yaml --events week.jsonl --format markdown >comment.md",
        "kubectl logs deploy/router --since 168h | ebaas-router diff old.yaml new.yaml --events -",
    ),
    exit_codes={
        GOOD: "every event keeps its plan",
        BAD: "a plan differs, or a file is not valid",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="a routes.yaml, as it was")
    parser.add_argument("new", metavar="NEW", help="as it is to be")
    parser.add_argument(
        "--events",
        action="append",
        metavar="FILE",
        help="lines with events, keys, or the router's JSON log; may be repeated",
    )
    parser.add_argument(
        "--tests",
        action="append",
        metavar="FILE",
        help="a tests file (default the one beside NEW, if no --events); may be repeated",
    )
    add_settings(parser, "secrets_dir")
    add_without_secrets(parser)
    add_format(parser, "markdown", *CI_FORMATS)


def run(args: argparse.Namespace) -> int:
    check_stdin([args.old, args.new, *(args.events or ()), *(args.tests or ())])
    before, after = (read_config(name, args) for name in (args.old, args.new))
    cases = _cases(args, after)
    usable = all_usable([before, after, *cases], args.format, "diff")
    old, new = before.value, after.value
    if old is None or new is None or not usable:
        return BAD
    compared = Comparison(old, new)
    for case in (case for file in cases for case in file.value or ()):
        compared.add(case.event)
    for name in args.events or ():
        _add_traffic(name, compared)
    edits = edits_of(old, new)
    if args.format == "json":
        say_json(_as_json(compared, edits))
    elif args.format in CI_FORMATS:
        say_checked(args.format, "diff", list(_checked(compared, edits, after.name)))
    else:
        say_lines((_markdown if args.format == "markdown" else _text)(compared, edits))
    return BAD if compared.changed else GOOD


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


def _add_traffic(name: str, compared: Comparison) -> None:
    before = compared.events
    with _opened(name) as stream:
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


def _opened(name: str) -> AbstractContextManager[IO[bytes]]:
    if name == STDIN:
        return nullcontext(stdin())
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise SettingInvalid(f"--events: {name!r} can't be read: {error.strerror}") from None


# Words for all formats.

_UNMATCHED = {"reject": "a failure (500)", "accept": "accepted (000)"}

#: The effect of a move, of many events and of one.
_EFFECTS = {
    ("required", "optional"): ("no longer require {}", "no longer requires {}"),
    ("required", None): ("lose {}", "loses {}"),
    ("optional", None): ("lose {}, which was optional", "loses {}, which was optional"),
    ("optional", "required"): ("now require {}", "now requires {}"),
    (None, "required"): ("newly go to {}, required", "newly goes to {}, required"),
    (None, "optional"): ("newly go to {}, optional", "newly goes to {}, optional"),
}


def _summary(compared: Comparison) -> str:
    total = counted(compared.events, "event")
    if compared.changed:
        return f"{compared.changed:,} of {total} would get another plan"
    return f"no plan changes: {total} compared"


def _effect(compared: Comparison, move: Move, events: int, name: str) -> str:
    """Format the change of a target, called `name`, over all events."""
    effect = _EFFECTS[move.before, move.after][events == 1].format(name)
    return f"{events:,} of {counted(compared.events, 'event')} {effect}"


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


def _number(group: Group) -> str:
    keys = f"{len(group.keys):,}+ keys" if group.more_keys else counted(len(group.keys), "key")
    return f"{counted(group.events, 'event')} ({keys})"


def _keys(group: Group) -> str:
    return few(
        [
            shown(key) + (f" ({times:,} times)" if times > 1 else "")
            for key, times in group.keys.most_common()
        ]
    )


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


# As text.


def _text(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    for group in compared.groups():
        yield f"{_number(group)}: {_heading(group.change)}"
        moves = [(move.target, _roles(move)) for move in group.change.moves]
        yield from columns(moves, indent=2)
        yield f"  keys    {_keys(group)}"
        if why := _why(group):
            yield f"  routes  {why}"
        yield ""
    yield from _edited(edits)
    if untried := _untried(compared, edits):
        yield untried
    for move, events in compared.moves():
        if move.is_loss:
            yield _effect(compared, move, events, move.target)
    yield _summary(compared)


def _edited(edits: Sequence[Edit]) -> Iterator[str]:
    """Format the edits, by kind."""
    for title, kind in (("targets", "target"), ("routes", "route"), ("settings", "settings")):
        rows = [row for edit in edits if edit.kind == kind for row in _edit(edit)]
        if rows:
            yield f"{title} that differ:"
            yield from columns(rows, indent=2)
            yield ""


def _edit(edit: Edit) -> Iterator[tuple[str, ...]]:
    name = [shown(edit.name) if edit.kind == "route" else edit.name] if edit.name else []
    if not edit.details:
        yield *name, edit.what, ""
    for detail in edit.details:
        yield *name, detail.name, str(detail)


def _untried(compared: Comparison, edits: Sequence[Edit]) -> str:
    """Name the edited routes that no compared event matches; `""` if there are none."""
    routes = [edit.name for edit in edits if edit.kind == "route"]
    untried = [name for name in routes if name not in compared.matched]
    return f"no event that was compared matches {quoted(untried)}" if untried else ""


# As a comment of a review.

#: The most groups and lines of a comment: GitHub takes 65,536 characters.
_GROUPS, _LINES = 20, 100


def _markdown(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    """Format Markdown. Texts of files and events are code in it: no mark-up, and no mentions."""
    yield f"### Routing: {_summary(compared)}"
    yield ""
    if effects := [*_effects(compared)]:
        yield from (*effects, "")
    groups = compared.groups()
    if groups:
        yield "| events | what changes | targets | keys | routes |"
        yield "| --- | --- | --- | --- | --- |"
        yield from map(_row, groups[:_GROUPS])
        yield ""
    if len(groups) > _GROUPS:
        yield f"And {counted(len(groups) - _GROUPS, 'group')} of events more."
        yield ""
    if edits:
        yield from _folded(compared, edits)


def _effects(compared: Comparison) -> Iterator[str]:
    if unmatched := compared.newly_unmatched:
        total = counted(compared.events, "event")
        yield f"- {unmatched:,} of {total} would match **no route** any more"
    for move, events in compared.moves():
        owner = compared.owner(move.target)
        name = _code(move.target) + (f" ({_code(owner)})" if owner else "")
        yield f"- {_effect(compared, move, events, name)}"


def _row(group: Group) -> str:
    why = _why(group)
    cells = [
        _number(group),
        _heading(group.change),
        "<br>".join(f"{_code(move.target)} {_roles(move)}" for move in group.change.moves),
        _code(_keys(group)),
        _code(why) if why else "",
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _folded(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    lines = list(_edited(edits))[:-1]
    if untried := _untried(compared, edits):
        lines += ["", untried]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"and {len(lines) - _LINES:,} lines more"]
    fence = _fence("\n".join(lines), 3)
    yield f"<details><summary>What was edited: {counted(len(edits), 'difference')}</summary>"
    yield ""
    yield from (fence, *lines, fence)
    yield ""
    yield "</details>"


def _code(text: str) -> str:
    fence = _fence(text, 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _fence(text: str, least: int) -> str:
    """Return more backticks than the text has in a row."""
    return "`" * max([least, *(len(ticks) + 1 for ticks in re.findall("`+", text))])


# For CI systems and programs.


def _checked(compared: Comparison, edits: Sequence[Edit], file: str) -> Iterator[Checked]:
    """Annotate each group at the first of its routes that was edited; a loss is an error."""
    names = {edit.name for edit in edits if edit.kind == "route"}
    for group in compared.groups():
        routes = sorted(group.after, key=lambda route: (route.name not in names, route.place))
        place = routes[0].place if routes else (file, 0)
        level: Literal["error", "notice"] = "error" if group.change.is_loss else "notice"
        moves = [f"{move.target} {_roles(move)}" for move in group.change.moves]
        why = [f"routes {why}"] if (why := _why(group)) else []
        words = [f"{_number(group)}: {_heading(group.change)}", *moves]
        message = "; ".join([*words, f"keys {_keys(group)}", *why])
        yield Checked([Annotation(level, message, *place)])
    if not compared.changed:
        yield Checked(said=_summary(compared))


def _as_json(compared: Comparison, edits: Sequence[Edit]) -> dict[str, Any]:
    return {
        "events": compared.events,
        "changed": compared.changed,
        "targets": [
            {**_move_json(move), "owner": compared.owner(move.target), "events": events}
            for move, events in compared.moves()
        ],
        "groups": [_group_json(group) for group in compared.groups()],
        "edits": [_edit_json(edit) for edit in edits],
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


def _edit_json(edit: Edit) -> dict[str, Any]:
    details = {name: {"before": before, "after": after} for name, before, after in edit.details}
    return {"kind": edit.kind, "name": edit.name, "what": edit.what, "details": details}
