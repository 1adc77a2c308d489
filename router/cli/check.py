"""`check` and `test`: faults of a routes.yaml, and the cases of its tests file."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from router.cli.options import (
    STDIN,
    Exit,
    Help,
    Options,
    Parser,
    matching,
    nearest_of,
    read_setting,
    stdin,
)
from router.cli.printing import age, columns, counted, few, note, say_as
from router.model.errors import ConfigInvalid, Problem, SettingInvalid, may
from router.model.event import FIELDS
from router.telemetry.log.lines import printable

if TYPE_CHECKING:
    from router.config.cases import Case, Difference, Verdict
    from router.config.files import Written
    from router.config.loading import Config

T = TypeVar("T")


# The inputs of all commands about a routes.yaml.


@dataclass(frozen=True, slots=True)
class Input(Generic[T]):
    """A file or folder, and its value or its problems."""

    #: The name from the command line, which is also its name in problems.
    name: str
    files: Sequence[Written]
    #: None if there are problems.
    value: T | None
    problems: tuple[Problem, ...] = ()
    #: The files that the router would refuse, with their owners.
    refused: Mapping[str, str] = field(default_factory=dict)


def add_config(parser: Options, *more: str) -> None:
    """Add the options of `read_config`, and of more settings."""
    parser.settings(*more, "secrets_dir")
    about = "let placeholders stand for tokens, signing secrets, headers, URLs and certificates "
    about += "whose variable or file is not there"
    parser.switch("--without-secrets", about)
    parser.format()


def check_stdin(files: Sequence[str]) -> None:
    """Raises SettingInvalid if more than one file is stdin."""
    if files.count(STDIN) > 1:
        raise SettingInvalid("only one file can be '-', stdin")


def read_config(
    name: str, args: argparse.Namespace, in_force: Sequence[Written] = ()
) -> Input[Config]:
    """Read the configuration that the router would load with this environment, all of it. The files
    are judged by the texts in force, if there are any."""
    from router.config.files import owner_in
    from router.config.loading import load_files, problems_of, refused_by_file

    files: Sequence[Written] = ()
    secrets_dir = read_setting(args, "secrets_dir")
    placeholders = getattr(args, "without_secrets", False)
    try:
        files = _files(name)
        config, refused = load_files(
            files, os.environ, secrets_dir, in_force=in_force, placeholders=placeholders
        )
    except ConfigInvalid as error:
        refused = refused_by_file(error.problems)
    problems = tuple(sorted(problems_of(refused)))
    owners = {file: one.owner for file, one in refused.items()}
    if files and files[0].name in refused and not in_force:
        owners = {file.name: owner_in(file.content) for file in files}  # all wait for routes.yaml
    return Input(_shown(name), files, None if refused else config, problems, owners)


def read_cases(name: str) -> Input[tuple[Case, ...]]:
    from router.config.cases import parse_cases

    files: Sequence[Written] = ()
    try:
        files = _files(name)
        return Input(_shown(name), files, parse_cases(files[0].content, files[0].name))
    except ConfigInvalid as error:
        return Input(_shown(name), files, None, error.problems)


def _shown(name: str) -> str:
    return "stdin" if name == STDIN else name


def all_usable(inputs: Sequence[Input[Any]], format: str) -> bool:
    """True if no input has problems. As JSON, problems are the result; otherwise messages."""
    bad = [one for one in inputs if one.value is None]
    if bad and format == "json":
        problems = _problems_json(problem for one in bad for problem in one.problems)
        say_as("json", [{"problems": problems}], ())
    elif bad:
        with contextlib.suppress(OSError):
            for problem in (problem for one in bad for problem in one.problems):
                print(printable(str(problem)), file=sys.stderr)
    return not bad


def _problems_json(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in problems]


def _files(name: str) -> Sequence[Written]:
    from router.config.document import MAX_SIZE
    from router.config.files import Written, read

    if name == STDIN:
        return [Written("stdin", stdin().read(MAX_SIZE + 1))]
    path = Path(name)
    if may(path, os.F_OK) and path.is_fifo():  # a shell's <(...)
        with path.open("rb") as pipe:
            return [Written(name, pipe.read(MAX_SIZE + 1))]
    files = read(path)
    return files if path.is_dir() else [replace(files[0], name=name)]


# `check`.

CHECK = Help(
    about="""Checks a routes.yaml, or a folder with one and a routes.d, and the tests files beside,
    as the router does when it loads them: every fault at once, in the files' order, each with line
    and column. Variables and secret files are looked up too, unless --without-secrets lets
    placeholders stand for them. A warning is something that is allowed but probably not meant. For
    a good file, the totals of its schedules of retries follow. A running router takes each file of
    a folder alone: the last line names those that it would refuse. FILE may be '-' for stdin;
    several are checked each by itself, and are a line of JSON each.""",
    examples="""
        ebaas-router check
        ebaas-router check config/routes.yaml --strict --without-secrets     # in CI
        ebaas-router check config --in-force old-config --owner 'team ledger'
        git show HEAD:config/routes.yaml | ebaas-router check -
        diff <(ebaas-router check --print old.yaml) <(ebaas-router check --print new.yaml)""",
    good="good: the router would take it",
    bad="a fault, or a file that can't be read; with --strict, a warning too",
)


def configure_check(parser: Parser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="a routes.yaml, as --config")
    about = "print the configuration in force: defaults filled in, variables replaced, secrets ***"
    parser.switch("--print", about)
    parser.switch("--strict", "let warnings fail too")
    about = "judge the edit from this file or folder, which a router has in force"
    parser.option("--in-force", "OLD", about)
    parser.option("--owner", "NAME", "judge only the files of this owner, without tests files")
    add_config(parser, "config")


def run_check(args: argparse.Namespace) -> int:
    from router.config.files import COMMON, TEAMS

    if args.files and args.config is not None:
        raise SettingInvalid("FILE and --config are the same: one of them can be given")
    check_stdin(args.files)
    names = args.files or [str(read_setting(args, "config"))]
    if args.print:
        return _print(names, args)
    for path in map(Path, names):
        # The file of a folder is checked without the files of its teams.
        if path.name == COMMON and path.is_file() and (teams := path.with_name(TEAMS)).is_dir():
            note(f"{teams} is not checked; `check {path.parent}` checks it with {path}")
    results = [_check(name, args) for name in names]
    return Exit.GOOD if all(results) else Exit.BAD


def _check(name: str, args: argparse.Namespace) -> bool:
    """Print the result for a file or folder, with the tests files beside it."""
    from router.config.cases import tests_of, unknown_targets

    routes = read_config(name, args, _in_force(args.in_force, name) if args.in_force else ())
    config, tests = routes.value, []
    if args.owner is not None:
        routes = _of_owner(routes, args.owner)
    elif name != STDIN:
        with contextlib.suppress(ConfigInvalid):  # the configuration itself has the same problem
            tests = [read_cases(str(path)) for path in tests_of(Path(name))]
    about = config.warnings if config else ()
    about = tuple(warning for warning in about if args.owner in (None, warning.owner))
    #: Each input, its warnings, and its summary, which may be empty.
    inputs: list[tuple[Input[Any], Sequence[Problem], str]] = [
        (routes, about, _summary(routes, is_whole=args.owner is None))
    ]
    for one in tests:
        cases = one.value or ()
        unknown = unknown_targets(cases, config.table.targets) if config else []
        number = counted(len(cases), "case")
        inputs.append((one, unknown, f"{one.name} is good: {number}" if cases else ""))
    problems = [problem for file, _, _ in inputs for problem in file.problems]
    warnings = [warning for _, several, _ in inputs for warning in several]
    is_good = not (problems or routes.refused or (args.strict and warnings))
    view = {
        "good": is_good,
        "file": routes.name,
        "files": [file.name for file in routes.files],
        "refused": [*routes.refused],
        "problems": _problems_json(problems),
        "warnings": _problems_json(warnings),
        "routes": len(config.table.routes) if config else None,
        "targets": len(config.table.targets) if config else None,
        "queue": [
            {"targets": names, "retries": schedule.retries, "seconds": schedule.total()}
            for schedule, names in config.schedules().items()
        ]
        if config
        else None,
        "hash": config.hash or None if config else None,
        "tests": " ".join(one.name for one in tests) or None,
        "cases": sum(len(one.value or ()) for one in tests) or None,
    }
    texts: list[str] = []
    for file, several, summary in inputs:
        texts += map(str, file.problems)
        texts += (f"warning: {warning}" for warning in several)
        texts += [summary] if summary else []
        texts += _schedules(config) if config and file is routes else ()
    if args.strict and warnings:
        texts.append(f"{routes.name} has warnings, which --strict does not allow")
    say_as(args.format, [view], texts)
    return is_good


def _in_force(old: str, name: str) -> list[Written]:
    """Read the texts in force, under the names that they have in the configuration to check."""
    from router.config.files import COMMON

    files = _files(old)
    if Path(old).is_dir():
        return [replace(file, name=str(name / Path(file.name).relative_to(old))) for file in files]
    if Path(name).is_dir():  # the file became a folder
        return [replace(files[0], name=f"{name}/{COMMON}", format="routes.common")]
    return [replace(files[0], name=name)]


def _of_owner(routes: Input[Config], owner: str) -> Input[Config]:
    """Leave out other owners' files. Raises SettingInvalid if no file has the owner."""
    from router.config.files import owner_in

    owners = {*map(owner_in, (file.content for file in routes.files)), *routes.refused.values()}
    if owner not in owners:
        likely = nearest_of(owner, owners)
        raise SettingInvalid(f"--owner: no file of {routes.name} has the owner {owner!r}{likely}")
    problems = tuple(problem for problem in routes.problems if problem.owner == owner)
    refused = {file: one for file, one in routes.refused.items() if one == owner}
    return replace(routes, problems=problems, refused=refused)


def _schedules(config: Config) -> Iterator[str]:
    """Format the total of each schedule of the queue, and the targets that have it."""
    for schedule, names in config.schedules().items():
        total = format_retries(schedule.retries, schedule.total())
        yield f"  {few(names)} (optional): {total}, then a dead letter"


def format_retries(retries: int, seconds: float) -> str:
    """Format the total of a schedule: `5 retries over 41s`."""
    return f"{counted(retries, 'retry')} over {age(seconds)}" if retries else "no retries"


def _summary(routes: Input[Config], *, is_whole: bool) -> str:
    config = routes.value
    if config is None:
        return _refused(routes, is_whole=is_whole) if len(routes.files) > 1 else ""
    table = config.table
    number = f"{counted(len(table.routes), 'route')}, {counted(len(table.targets), 'target')}"
    files = f" in {len(config.files):,} files" if len(config.files) > 1 else ""
    digest = config.hash[:12] or "without its secrets"
    return f"{routes.name} is good: {number}{files}; {digest}"


def _refused(routes: Input[Config], *, is_whole: bool) -> str:
    """Format the files that a router would refuse; for an owner, of theirs."""
    if not routes.refused:
        return "" if routes.problems else "a router would take each file of this owner"
    wrong = {problem.file for problem in routes.problems}
    refused = [
        f"{file}{f' ({owner})' if owner else ''}{'' if file in wrong else ', which waits'}"
        for file, owner in routes.refused.items()
    ]
    taken = sum(file.name not in routes.refused for file in routes.files)
    others = f"; it would take {taken} of {counted(len(routes.files), 'file')}" if is_whole else ""
    return f"a router would refuse {few(refused)}{others}"


def _print(names: Sequence[str], args: argparse.Namespace) -> int:
    """Print the FILE as a routes.yaml of the same meaning, but with masked values."""
    from router.config.document import write
    from router.config.effective import effective_of, mapped

    if len(names) > 1:
        raise SettingInvalid("--print takes one FILE")
    file = read_config(names[0], args)
    if not all_usable([file], args.format) or file.value is None:
        return Exit.BAD
    effective = effective_of(file.value)
    view = {"file": file.name, "hash": file.value.hash, **effective}
    # The syntax of a routes.yaml wants every `$` twice.
    escaped = mapped(effective, lambda one: one.replace("$", "$$") if isinstance(one, str) else one)
    lines = write(escaped).splitlines() if args.format == "text" else ()
    say_as(args.format, [view], [f"# {file.name}, hash {file.value.hash}", *lines])
    return Exit.GOOD


# `test`.

TEST = Help(
    about="""Runs cases, events with the plan that each must lead to, against a routes.yaml, by the
    code that the router itself runs. Prints the differences of each case that fails, and the
    routes that no case matches. FILE is a tests file, '-' stdin; without one it is the one beside
    the routes.yaml, routes.test.yaml, or of a folder those beside each of its files.""",
    examples="""
        ebaas-router test
        ebaas-router test --fail-under 100
        ebaas-router test --config new.yaml config/routes.test.yaml more.test.yaml""",
    good="every case holds",
    bad="a case fails, --fail-under is not reached, or a file is not valid",
)


parse_percent = matching(
    r"(100(\.0{1,6})?|[0-9]{1,2}(\.[0-9]{1,6})?)", "a percentage (0 to 100)", float
)


def configure_test(parser: Parser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="a tests file")
    about = "fail where fewer of the routes are covered (default 0)"
    parser.option("--fail-under", "PERCENT", about, parse_percent, default=0.0)
    add_config(parser, "config")


def run_test(args: argparse.Namespace) -> int:
    from router.config.cases import judge, uncovered
    from router.config.document import shown

    check_stdin(args.files)
    path: Path = read_setting(args, "config")
    routes = read_config(str(path), args)
    files = [read_cases(file) for file in args.files or _beside(path, routes)]
    usable = all_usable([routes, *files], args.format)
    config = routes.value
    if config is None or not usable:
        return Exit.BAD
    cases = [case for file in files for case in file.value or ()]
    verdicts = [judge(case, config.table) for case in cases]
    failed = [verdict for verdict in verdicts if verdict.differences]
    missed, total = uncovered(config.table, verdicts), len(config.table.routes)
    percent = 100.0 * (total - len(missed)) / total if total else 100.0
    view = {
        "cases": len(cases),
        "failed": [_failed_json(verdict) for verdict in failed],
        "routes": total,
        "covered": total - len(missed),
        "percent": percent,
        "missed": [
            {"name": route.name, "file": route.file, "line": route.line} for route in missed
        ],
    }
    texts = [line for verdict in failed for line in _failed_texts(verdict, config)]
    count = counted(len(cases), "case")
    texts.append(f"{count}: {len(failed):,} failed" if failed else f"{count} passed")
    texts += (f"{route.where}: no case matches {shown(route.name)}" for route in missed)
    # Rounded down: 100 is all of them.
    covered = f"{math.floor(percent * 10) / 10:g}"
    texts.append(f"{total - len(missed):,} of {counted(total, 'route')} covered, {covered} %")
    if percent < args.fail_under:
        texts.append(f"that is under {args.fail_under:g} %")
    say_as(args.format, [view], texts)
    return Exit.BAD if failed or percent < args.fail_under else Exit.GOOD


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


def _failed_texts(verdict: Verdict, config: Config) -> Iterator[str]:
    case, key = verdict.case, verdict.case.event.event_key
    more = "" if case.name == key else f" ({key})"
    yield f"{case.file}:{case.line}: {case.name}{more}"
    rows = [_difference(one, config.table.targets) for one in verdict.differences]
    yield from columns(rows, indent=4)
    if not verdict.plan.routes:
        yield "    no route matches"


def _difference(one: Difference, targets: Collection[str]) -> tuple[str, str, str]:
    """Format a target, its expected role, and its role."""
    expected = "expected " + (one.expected or "nothing")
    if one.actual is not None:
        where = ", ".join(route.where for route in one.routes[:3])
        return one.target, expected, f"is {one.actual} by {where}"
    unknown = f"; there is no such target{nearest_of(one.target, targets)}"
    absent = "is not in the plan"
    return one.target, expected, absent if one.target in targets else absent + unknown


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
