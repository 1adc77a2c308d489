"""`test`: the cases of a tests file against a routes.yaml, and which routes no case has tried."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.cli.options import BAD, GOOD, Help, add_settings, nearest_of, read_setting, value
from router.cli.printing import say, say_json
from router.cli.routes.inputs import add_format, read_cases, read_config, usable
from router.model import FIELDS

if TYPE_CHECKING:
    from router.config import Case, CaseBlind, Config, Coverage, Difference, Verdict

SUMMARY = "run the cases of routes.test.yaml, and say which routes none has tried"

HELP = Help(
    about="""Runs cases, events with the plan that each must lead to, against a routes.yaml, by the
    code that the router itself runs. Prints what is different for each case that fails, and which
    routes no case matches. FILE is a tests file, '-' stdin; without one it is the one beside the
    routes.yaml: routes.test.yaml.""",
    examples=(
        "ebaas-router test",
        "ebaas-router test --fail-under 100",
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
    HELP.teach(parser)
    parser.add_argument("files", nargs="*", metavar="FILE", help="a tests file")
    parser.add_argument(
        "--fail-under",
        type=value(parse_percent),
        default=0.0,
        metavar="PERCENT",
        help="fail where fewer of the routes are covered (default 0)",
    )
    add_settings(parser, "config", "secrets_dir")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from router.config import beside, coverage, judge

    path: Path = read_setting(args, "config")
    loaded = usable(read_config(str(path), args), args.format)
    files = args.files or [str(beside(path))]
    found = [usable(read_cases(file), args.format) for file in files]
    cases = [case for each in found if each is not None for case in each]
    if loaded is None or None in found:
        return BAD
    verdicts = [judge(case, loaded.table) for case in cases]
    covered = coverage(loaded.table, verdicts)
    if args.format == "json":
        say_json(_as_json(verdicts, covered, loaded))
    else:
        for line in _told(verdicts, covered, loaded, str(path)):
            say(line)
        if covered.percent < args.fail_under:
            say(f"that is under {args.fail_under:g} %")
    good = all(verdict.holds for verdict in verdicts) and covered.percent >= args.fail_under
    return GOOD if good else BAD


def _told(
    verdicts: Sequence[Verdict], covered: Coverage, loaded: Config, file: str
) -> Iterator[str]:
    from router.cli.columns import columns, counted
    from router.config import CaseBlind, shown

    failed = [verdict for verdict in verdicts if not verdict.holds]
    blind = CaseBlind(loaded.table)
    for verdict in failed:
        yield _title(verdict.case)
        rows = [_difference(each, loaded, file) for each in verdict.differences]
        yield from columns(rows, indent=4)
        if not verdict.plan.routes:
            yield "    no route matches"
        for route in blind.missed(verdict.case.event, verdict.plan):
            place = f"{file}:{route.line}: {shown(route.name)}"
            yield f"    {place} would match if upper and lower case were one"
    count = counted(len(verdicts), "case")
    yield f"{count}: {len(failed):,} failed" if failed else f"{count}, every one holds"
    for route in covered.missed:
        yield f"{file}:{route.line}: no case matches {shown(route.name)}"
    number = covered.total - len(covered.missed)
    yield f"{number:,} of {counted(covered.total, 'route')} covered, {_percent(covered)} %"


def _title(case: Case) -> str:
    key = case.event.event_key
    return f"{case.file}:{case.line}: {case.name}" + ("" if case.name == key else f" ({key})")


def _difference(difference: Difference, loaded: Config, file: str) -> tuple[str, str, str]:
    """Target, what was expected, what is."""
    expected = "expected " + (difference.expected or "nothing")
    if difference.actual is None:
        return difference.target, expected, f"is not in the plan{_unknown(difference, loaded)}"
    lines = ", ".join(f"{file}:{route.line}" for route in difference.routes[:3])
    return difference.target, expected, f"is {difference.actual} by {lines}"


def _unknown(difference: Difference, loaded: Config) -> str:
    targets = loaded.table.targets
    if difference.target in targets:
        return ""
    return f"; there is no such target{nearest_of(difference.target, targets)}"


def _percent(covered: Coverage) -> str:
    """Rounded down: 100 is all of them."""
    return f"{math.floor(covered.percent * 10) / 10:g}"


def _as_json(verdicts: Sequence[Verdict], covered: Coverage, loaded: Config) -> dict[str, Any]:
    from router.config import CaseBlind

    failed = [verdict for verdict in verdicts if not verdict.holds]
    blind = CaseBlind(loaded.table)
    return {
        "cases": len(verdicts),
        "failed": [_failed_json(verdict, blind) for verdict in failed],
        "routes": covered.total,
        "covered": covered.total - len(covered.missed),
        "percent": covered.percent,
        "missed": [{"name": route.name, "line": route.line} for route in covered.missed],
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
