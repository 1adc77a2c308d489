"""`test`: the cases of a tests file against a routes.yaml, and the routes that no case matches."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from router.cli.annotations import CI_FORMATS, Annotation, Checked, say_checked
from router.cli.columns import columns, counted
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
from router.config.document import shown
from router.model.errors import SettingInvalid
from router.model.event import FIELDS

if TYPE_CHECKING:
    from router.config.cases import Case, Coverage, Difference, Verdict
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
    routes = read_config(str(path), args)
    files = [read_cases(file) for file in args.files or _beside(path, routes)]
    usable = all_usable([routes, *files], args.format, "test")
    config = routes.value
    if config is None or not usable:
        return BAD
    cases = [case for file in files for case in file.value or ()]
    verdicts = [judge(case, config.table) for case in cases]
    result = _Result(verdicts, coverage(config.table, verdicts), config)
    enough = result.covered.percent >= args.fail_under
    if args.format in CI_FORMATS:
        say_checked(args.format, "test", list(_checked(result, enough=enough)))
    else:
        less = [] if enough else [f"that is under {args.fail_under:g} %"]
        say_as(args.format, [_as_json(result)], chain(_text(result), less))
    return GOOD if enough and not result.failed else BAD


def _beside(path: Path, routes: Input[Config]) -> list[str]:
    """Return the tests files beside a configuration; for a single file also one that is missing."""
    from router.config.cases import beside, tests_of

    if not routes.files:
        return []
    if not path.is_dir():
        return [str(beside(path))]
    names = [str(tests) for tests in tests_of(path)]
    if routes.value is not None and not names:
        raise SettingInvalid(f"no file of {path} has a tests file beside it: give FILE")
    return names


class _Result(NamedTuple):
    """The verdicts of all cases."""

    verdicts: Sequence[Verdict]
    covered: Coverage
    config: Config

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.holds]

    def summary(self) -> str:
        total, missed = self.covered.total, len(self.covered.missed)
        # Rounded down: 100 is all of them.
        percent = f"{math.floor(self.covered.percent * 10) / 10:g}"
        return f"{total - missed:,} of {counted(total, 'route')} covered, {percent} %"

    def difference(self, one: Difference) -> tuple[str, str, str]:
        """Format a target, its expected role, and its role."""
        expected = "expected " + (one.expected or "nothing")
        if one.actual is not None:
            where = ", ".join(route.where for route in one.routes[:3])
            return one.target, expected, f"is {one.actual} by {where}"
        targets = self.config.table.targets
        unknown = f"; there is no such target{nearest_of(one.target, targets)}"
        absent = "is not in the plan"
        return one.target, expected, absent if one.target in targets else absent + unknown


def _text(result: _Result) -> Iterator[str]:
    failed = result.failed
    for verdict in failed:
        case = verdict.case
        yield f"{case.file}:{case.line}: {_name(case)}"
        yield from columns([result.difference(one) for one in verdict.differences], indent=4)
        if not verdict.plan.routes:
            yield "    no route matches"
    count = counted(len(result.verdicts), "case")
    yield f"{count}: {len(failed):,} failed" if failed else f"{count} passed"
    for route in result.covered.missed:
        yield f"{route.where}: {_untried(route)}"
    yield result.summary()


def _name(case: Case) -> str:
    key = case.event.event_key
    return case.name if case.name == key else f"{case.name} ({key})"


def _untried(route: Route) -> str:
    return f"no case matches {shown(route.name)}"


def _checked(result: _Result, *, enough: bool) -> Iterator[Checked]:
    """Annotate each failed case, then each route that no case matches: an error if too few are
    covered."""
    for verdict in result.verdicts:
        case, annotations = verdict.case, []
        if not verdict.holds:
            words = [" ".join(result.difference(one)) for one in verdict.differences]
            none = "" if verdict.plan.routes else "; no route matches"
            message = f"{_name(case)}: {', '.join(words)}{none}"
            annotations.append(Annotation("error", message, case.file, case.line))
        yield Checked(annotations)
    level: Literal["error", "notice"] = "notice" if enough else "error"
    missed = result.covered.missed
    annotations = [Annotation(level, _untried(one), one.file, one.line) for one in missed]
    yield Checked(annotations, result.summary())


def _as_json(result: _Result) -> dict[str, Any]:
    covered = result.covered
    return {
        "cases": len(result.verdicts),
        "failed": [_failed_json(verdict) for verdict in result.failed],
        "routes": covered.total,
        "covered": covered.total - len(covered.missed),
        "percent": covered.percent,
        "missed": [
            {"name": route.name, "file": route.file, "line": route.line} for route in covered.missed
        ],
    }


def _failed_json(verdict: Verdict) -> dict[str, Any]:
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
        "differences": [
            {"target": one.target, "expected": one.expected, "actual": one.actual}
            for one in verdict.differences
        ],
    }
