"""`diff`: what a change of routes.yaml means for events."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from router.cli.annotations import CI_FORMATS, say_checked
from router.cli.columns import columns, counted, few, quoted
from router.cli.options import BAD, GOOD, STDIN, Help, add_format, add_settings, stdin
from router.cli.printing import note, say_json, say_lines
from router.cli.routes.inputs import (
    Input,
    add_without_secrets,
    all_usable,
    check_stdin,
    read_cases,
    read_config,
)
from router.config.comparison import Change, Comparison, Detail, Edit, Group, Move
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
    from router.config.comparison import Comparison

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
    _tell(compared, old, new, args.format, after.name)
    return BAD if compared.changed else GOOD


def _tell(compared: Comparison, old: Config, new: Config, format: str, file: str) -> None:
    from router.cli.routes.review import checked, review
    from router.config.comparison import edits_of

    edits = edits_of(old, new)
    if format == "json":
        say_json(as_json(compared, edits))
    elif format in CI_FORMATS:
        say_checked(format, "diff", list(checked(compared, edits, file)))
    else:
        say_lines((review if format == "markdown" else told)(compared, edits))


def _cases(args: argparse.Namespace, after: Input[Config]) -> list[Input[tuple[Case, ...]]]:
    """Those of --tests, or of the files beside NEW where nothing else is to be compared."""
    from router.config.cases import beside, tests_of

    if args.tests is not None or args.events is not None:
        return [read_cases(name) for name in args.tests or ()]
    path = Path(args.new)
    if not after.files:
        return []
    found = [] if args.new == STDIN else tests_of(path)
    if not found:
        name = "" if args.new == STDIN or path.is_dir() else f" {beside(path)}"
        raise SettingInvalid(f"there is no tests file{name} beside NEW: give --tests or --events")
    return [read_cases(str(each)) for each in found]


def _add_traffic(name: str, compared: Comparison) -> None:
    from router.cli.routes.inputs import Traffic

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


_UNMATCHED = {"reject": "a failure (500)", "accept": "accepted (000)"}


#: What a move does to an event: of many, of one.
_EFFECTS = {
    ("required", "optional"): ("no longer require {}", "no longer requires {}"),
    ("required", None): ("lose {}", "loses {}"),
    ("optional", None): ("lose {}, which was optional", "loses {}, which was optional"),
    ("optional", "required"): ("now require {}", "now requires {}"),
    (None, "required"): ("newly go to {}, required", "newly goes to {}, required"),
    (None, "optional"): ("newly go to {}, optional", "newly goes to {}, optional"),
}


def told(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    for group in compared.groups():
        yield from _group(group)
        yield ""
    yield from edited(edits)
    if untried := untried_of(compared, edits):
        yield untried
    for move, events in compared.moves():
        if move.is_loss:
            yield effect(compared, move, events, move.target)
    yield summary(compared)


def summary(compared: Comparison) -> str:
    total = counted(compared.events, "event")
    if compared.changed:
        return f"{compared.changed:,} of {total} would get another plan"
    return f"no plan changes: {total} compared"


def effect(compared: Comparison, move: Move, events: int, name: str) -> str:
    """What happens to a target, called `name`, over all events."""
    what = _EFFECTS[move.before, move.after][events == 1].format(name)
    return f"{events:,} of {counted(compared.events, 'event')} {what}"


def edited(edits: Sequence[Edit]) -> Iterator[str]:
    """What differs as such, by kind."""
    for title, kind in (("targets", "target"), ("routes", "route"), ("settings", "settings")):
        found = [edit for edit in edits if edit.kind == kind]
        if found:
            yield f"{title} that differ:"
            yield from columns([row for edit in found for row in _edit(edit)], indent=2)
            yield ""


def untried_of(compared: Comparison, edits: Sequence[Edit]) -> str:
    """The routes that differ and of which nothing is known; `""` where there is none."""
    routes = [edit.name for edit in edits if edit.kind == "route"]
    untried = [name for name in routes if name not in compared.matched]
    return f"no event that was compared matches {quoted(untried)}" if untried else ""


def _group(group: Group) -> Iterator[str]:
    """Who is concerned, what changes, and why."""
    yield f"{number(group)}: {heading(group.change)}"
    yield from columns(list(effects_of(group.change)), indent=2)
    yield f"  keys    {keys_of(group)}"
    if because := why(group):
        yield f"  routes  {because}"


def keys_of(group: Group) -> str:
    return few([f"{shown(key)}{_times(times)}" for key, times in group.keys.most_common()])


def effects_of(change: Change) -> Iterator[tuple[str, str]]:
    """Each target, and what it was and is."""
    for move in change.moves:
        yield move.target, f"{_role(move.before)} → {_role(move.after)}"


def heading(change: Change) -> str:
    if change.newly_unmatched:
        return f"newly unmatched, {_UNMATCHED[change.after]}"
    if not change.moves:
        return f"unmatched as before, {_UNMATCHED[change.before]} → {_UNMATCHED[change.after]}"
    if change.before != change.after:
        return f"newly matched, was {_UNMATCHED[change.before]}"
    worst = change.moves[0]
    return f"{_role(worst.before)} → {_role(worst.after)}"


def number(group: Group) -> str:
    keys = f"{len(group.keys):,}+ keys" if group.more_keys else counted(len(group.keys), "key")
    return f"{counted(group.events, 'event')} ({keys})"


def _times(times: int) -> str:
    return f" ({times:,} times)" if times > 1 else ""


def _role(role: str | None) -> str:
    return role or "not in the plan"


def why(group: Group) -> str:
    """The routes of the group's first event that come, go, or have other targets."""
    old, new = ({route.name: route for route in each} for each in (group.before, group.after))
    both = old.keys() & new.keys()
    edited = [name for name in both if _targets(old[name]) != _targets(new[name])]
    said = [
        f"{verb} {quoted(sorted(names))}"
        for verb, names in (
            ("no longer", old.keys() - new.keys()),
            ("now", new.keys() - old.keys()),
            ("with other targets", edited),
        )
        if names
    ]
    return "; ".join(said)


def _targets(route: Route) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(route.required), frozenset(route.optional)


def _edit(edit: Edit) -> Iterator[tuple[str, ...]]:
    name = [shown(edit.name) if edit.kind == "route" else edit.name] if edit.name else []
    if not edit.details:
        yield *name, edit.what, ""
    for detail in edit.details:
        yield *name, detail.name, _detail(detail)


def _detail(detail: Detail) -> str:
    if detail.masked:
        return f"changed ({_value(detail.after)})"
    return f"{_value(detail.before)} → {_value(detail.after)}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_value(each)}" for name, each in value.items())
    return few(value) if isinstance(value, list) else str(value)


def as_json(compared: Comparison, edits: Sequence[Edit]) -> dict[str, Any]:
    return {
        "events": compared.events,
        "changed": compared.changed,
        "targets": [
            {
                "name": move.target,
                "owner": compared.owner(move.target),
                "before": move.before,
                "after": move.after,
                "events": events,
            }
            for move, events in compared.moves()
        ],
        "groups": [_group_json(group) for group in compared.groups()],
        "edits": [_edit_json(edit) for edit in edits],
    }


def _group_json(group: Group) -> dict[str, Any]:
    change = group.change
    return {
        "before": change.before,
        "after": change.after,
        "targets": [
            {"name": move.target, "before": move.before, "after": move.after}
            for move in change.moves
        ],
        "events": group.events,
        "keys": dict(group.keys.most_common()),
        "more_keys": group.more_keys,
        "routes_before": [route.name for route in group.before],
        "routes_after": [route.name for route in group.after],
    }


def _edit_json(edit: Edit) -> dict[str, Any]:
    details = {
        detail.name: {"before": detail.before, "after": detail.after} for detail in edit.details
    }
    return {"kind": edit.kind, "name": edit.name, "what": edit.what, "details": details}
