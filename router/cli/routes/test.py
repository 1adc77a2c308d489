"""`test`: the cases of a tests file against a routes.yaml, and which routes no case has tried."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from router.cli.annotations import CI_FORMATS, Annotation, Checked, say_checked
from router.cli.options import (
    BAD,
    GOOD,
    Help,
    add_format,
    add_settings,
    nearest_of,
    read_setting,
    value,
)
from router.cli.printing import say_as
from router.cli.routes.inputs import (
    Input,
    add_without_secrets,
    all_usable,
    check_stdin,
    read_cases,
    read_config,
)
from router.model.errors import SettingInvalid
from router.model.event import FIELDS

if TYPE_CHECKING:
    from router.config.cases import Case, CaseBlind, Coverage, Difference, Verdict
    from router.config.loading import Config
    from router.routing.table import Route

HELP = Help(
    about="""Runs cases, events with the plan that each must lead to, against a routes.yaml, by the
    code that the router itself runs. Prints what is different for each case that fails, and which
    routes no case matches. FILE is a tests file, '-' stdin; without one it is the one beside the
    routes.yaml, routes.test.yaml, or of a folder those beside each of its files.""",
    examples=(
        "ebaas-router test",
        "ebaas-router test --fail-under 100 --format github",
        "ebaas-router test --config new.yaml config/routes.test.yaml more.test.yaml",
    ),
    exit_codes={
        GOOD: "every case holds",
        BAD: "a case fails, fewer routes are covered than --fail-under, or a file is not valid",
    },
)


def parse_percent(text: str) -> float:
    percent = float(text) if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text) else -1
    if not 0 <= percent <= 100:
        raise ValueError(f"{text!r} is not a percentage (0 to 100)")
    return percent


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="a tests file")
    parser.add_argument(
        "--fail-under",
        type=value(parse_percent),
        default=0.0,
        metavar="PERCENT",
        help="fail where fewer of the routes are covered (default 0)",
    )
    add_settings(parser, "config", "secrets_dir")
    add_without_secrets(parser)
    add_format(parser, *CI_FORMATS)


def run(args: argparse.Namespace) -> int:
    from router.config.cases import coverage, judge

    check_stdin(args.files)
    path: Path = read_setting(args, "config")
    found = read_config(str(path), args)
    files = [read_cases(file) for file in args.files or _beside(path, found)]
    usable = all_usable([found, *files], args.format, "test")
    loaded = found.value
    if loaded is None or not usable:
        return BAD
    cases = [case for file in files for case in file.value or ()]
    verdicts = [judge(case, loaded.table) for case in cases]
    covered = coverage(loaded.table, verdicts)
    enough = covered.percent >= args.fail_under
    if args.format in CI_FORMATS:
        checked = _checked(verdicts, covered, loaded, enough=enough)
        say_checked(args.format, "test", list(checked))
    else:
        less = [] if enough else [f"that is under {args.fail_under:g} %"]
        shape, told = _as_json(verdicts, covered, loaded), _told(verdicts, covered, loaded)
        say_as(args.format, [shape], chain(told, less))
    return GOOD if enough and all(verdict.holds for verdict in verdicts) else BAD


def _beside(path: Path, found: Input[Config]) -> list[str]:
    """The tests files beside; of one file that is there it is told where it is missing."""
    from router.config.cases import beside, tests_of

    if not found.files:
        return []
    if not path.is_dir():
        return [str(beside(path))]
    names = [str(each) for each in tests_of(path)]
    if found.value is not None and not names:
        raise SettingInvalid(f"no file of {path} has a tests file beside it: give FILE")
    return names


def _told(verdicts: Sequence[Verdict], covered: Coverage, loaded: Config) -> Iterator[str]:
    from router.cli.columns import columns, counted
    from router.config.cases import CaseBlind

    failed = [verdict for verdict in verdicts if not verdict.holds]
    blind = CaseBlind(loaded.table)
    for verdict in failed:
        yield _title(verdict.case)
        rows = [_difference(each, loaded) for each in verdict.differences]
        yield from columns(rows, indent=4)
        yield from (f"    {why}" for why in _why(verdict, blind))
    count = counted(len(verdicts), "case")
    yield f"{count}: {len(failed):,} failed" if failed else f"{count}, every one holds"
    for route in covered.missed:
        yield f"{route.where}: {_untried(route)}"
    yield _summary(covered)


def _why(verdict: Verdict, blind: CaseBlind) -> Iterator[str]:
    """What may be behind the differences."""
    from router.config.document import shown

    if not verdict.plan.routes:
        yield "no route matches"
    for route in blind.missed(verdict.case.event, verdict.plan):
        place = f"{route.where}: {shown(route.name)}"
        yield f"{place} would match if upper and lower case were one"


def _untried(route: Route) -> str:
    from router.config.document import shown

    return f"no case matches {shown(route.name)}"


def _summary(covered: Coverage) -> str:
    from router.cli.columns import counted

    number = covered.total - len(covered.missed)
    return f"{number:,} of {counted(covered.total, 'route')} covered, {_percent(covered)} %"


def _checked(
    verdicts: Sequence[Verdict], covered: Coverage, loaded: Config, *, enough: bool
) -> Iterator[Checked]:
    """Each case by itself; then the routes, where one that no case tries is an error if they are
    too few that any does."""
    from router.config.cases import CaseBlind

    blind = CaseBlind(loaded.table)
    for verdict in verdicts:
        case, found = verdict.case, []
        if not verdict.holds:
            said = [" ".join(_difference(each, loaded)) for each in verdict.differences]
            why = "".join(f"; {each}" for each in _why(verdict, blind))
            message = f"{_name(case)}: {', '.join(said)}{why}"
            found.append(Annotation("error", message, case.file, case.line))
        yield Checked(found)
    level: Literal["error", "notice"] = "notice" if enough else "error"
    missed = [Annotation(level, _untried(each), each.file, each.line) for each in covered.missed]
    yield Checked(missed, _summary(covered))


def _title(case: Case) -> str:
    return f"{case.file}:{case.line}: {_name(case)}"


def _name(case: Case) -> str:
    key = case.event.event_key
    return case.name if case.name == key else f"{case.name} ({key})"


def _difference(difference: Difference, loaded: Config) -> tuple[str, str, str]:
    """Target, what was expected, what is."""
    expected = "expected " + (difference.expected or "nothing")
    if difference.actual is None:
        return difference.target, expected, f"is not in the plan{_unknown(difference, loaded)}"
    places = ", ".join(route.where for route in difference.routes[:3])
    return difference.target, expected, f"is {difference.actual} by {places}"


def _unknown(difference: Difference, loaded: Config) -> str:
    targets = loaded.table.targets
    if difference.target in targets:
        return ""
    return f"; there is no such target{nearest_of(difference.target, targets)}"


def _percent(covered: Coverage) -> str:
    """Rounded down: 100 is all of them."""
    return f"{math.floor(covered.percent * 10) / 10:g}"


def _as_json(verdicts: Sequence[Verdict], covered: Coverage, loaded: Config) -> dict[str, Any]:
    from router.config.cases import CaseBlind

    failed = [verdict for verdict in verdicts if not verdict.holds]
    blind = CaseBlind(loaded.table)
    return {
        "cases": len(verdicts),
        "failed": [_failed_json(verdict, blind) for verdict in failed],
        "routes": covered.total,
        "covered": covered.total - len(covered.missed),
        "percent": covered.percent,
        "missed": [
            {"name": route.name, "file": route.file, "line": route.line} for route in covered.missed
        ],
    }


def _failed_json(verdict: Verdict, blind: CaseBlind) -> dict[str, Any]:
    case = verdict.case
    return {
        "file": case.file,
        "line": case.line,
        "name": case.name,
        "event": {name: getattr(case.event, name) for name in FIELDS},
        "expected": dict(case.expected),
        "exact": case.exact,
        "actual": verdict.plan.roles,
        "routes": [route.name for route in verdict.plan.routes],
        "but_for_case": [route.name for route in blind.missed(case.event, verdict.plan)],
        "differences": [
            {"target": each.target, "expected": each.expected, "actual": each.actual}
            for each in verdict.differences
        ],
    }
