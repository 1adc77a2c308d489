"""`check`: every fault of a routes.yaml, or, with --print, the configuration that it makes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from router.cli.annotations import CI_FORMATS, Checked, say_checked
from router.cli.columns import counted
from router.cli.options import BAD, GOOD, STDIN, Help, add_format, add_settings, read_setting
from router.cli.printing import note, say_as, say_json, say_lines
from router.cli.routes.inputs import (
    Input,
    add_without_secrets,
    all_usable,
    annotated,
    check_stdin,
    problems_json,
    read_cases,
    read_config,
)
from router.model.errors import ConfigInvalid, Problem, SettingInvalid

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.loading import Config

HELP = Help(
    about="""Checks a routes.yaml, or a folder with one and a routes.d, and the tests files beside,
    as the router does when it loads them: every fault at once, in the files' order, each with line
    and column. Variables and secret files are looked up too, unless --without-secrets lets
    placeholders stand for them. A warning is something that is
    allowed but probably not meant. FILE may be '-' for stdin; several are checked each by itself,
    and are a line of JSON each.""",
    examples=(
        "ebaas-router check",
        "ebaas-router check config/routes.yaml --strict --without-secrets     # in CI",
        "ebaas-router check staging/routes.yaml production/routes.yaml --format github",
        "git show HEAD:config/routes.yaml | ebaas-router check -",
        "diff <(ebaas-router check --print old.yaml) <(ebaas-router check --print new.yaml)",
    ),
    exit_codes={
        GOOD: "good: the router would take it",
        BAD: "a fault, or a file that can't be read; with --strict, a warning too",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="a routes.yaml, as --config")
    add_settings(parser, "config", "secrets_dir")
    parser.add_argument(
        "--print",
        action="store_true",
        help="print what the router has of it: defaults filled in, variables replaced, secrets ***",
    )
    parser.add_argument("--strict", action="store_true", help="let warnings fail too")
    add_without_secrets(parser)
    add_format(parser, *CI_FORMATS)


def run(args: argparse.Namespace) -> int:
    names = _names(args)
    if args.print:
        return _print(names, args)
    files = [_File(read_config(name, args), _tests(name), args.strict) for name in names]
    _hint_at_folders(names)
    if args.format in CI_FORMATS:
        say_checked(args.format, "check", [one for file in files for one in file.checked()])
    for file in files:
        if args.format == "json":
            say_json(file.as_json())
        elif args.format == "text":
            say_lines(file.texts())
    return GOOD if all(file.good for file in files) else BAD


def _names(args: argparse.Namespace) -> list[str]:
    """Return each FILE, or the configuration that `serve` would load."""
    given: list[str] = args.files or []
    if given and args.config is not None:
        raise SettingInvalid("FILE and --config are the same: one of them can be given")
    check_stdin(given)
    return given or [str(read_setting(args, "config"))]


def _print(names: Sequence[str], args: argparse.Namespace) -> int:
    """Print the FILE as a routes.yaml of the same meaning, but for masked values."""
    from router.config.document import write
    from router.config.effective import effective_of

    if len(names) > 1:
        raise SettingInvalid("--print takes one FILE")
    if args.format in CI_FORMATS:
        raise SettingInvalid(f"--print has no format {args.format!r}")
    file = read_config(names[0], args)
    if not all_usable([file], args.format) or file.value is None:
        return BAD
    effective = effective_of(file.value)
    shape = {"file": file.name, "hash": file.value.hash, **effective}
    lines = write(_escaped(effective)).splitlines() if args.format == "text" else ()
    say_as(args.format, [shape], [f"# {file.name}, hash {file.value.hash}", *lines])
    return GOOD


def _escaped(value: Any) -> Any:
    """Double every `$`, as a routes.yaml has to have it."""
    if isinstance(value, dict):
        return {name: _escaped(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _hint_at_folders(names: Sequence[str]) -> None:
    """Note that the files in a routes.d are not checked with the routes.yaml beside it."""
    from router.config.files import COMMON, TEAMS

    for path in map(Path, names):
        if path.name == COMMON and path.is_file() and (teams := path.with_name(TEAMS)).is_dir():
            note(f"{teams} is not checked; `check {path.parent}` checks it with {path}")


def _tests(name: str) -> list[Input[tuple[Case, ...]]]:
    """Read the tests files that exist beside a configuration."""
    from router.config.cases import tests_of

    try:
        return [] if name == STDIN else [read_cases(str(path)) for path in tests_of(Path(name))]
    except ConfigInvalid:  # the configuration itself has the same problem
        return []


@dataclass(frozen=True, slots=True)
class _File:
    """A routes.yaml, or a folder, and the tests files beside it."""

    routes: Input[Config]
    tests: list[Input[tuple[Case, ...]]]
    strict: bool

    @property
    def problems(self) -> list[Problem]:
        return [problem for file, _, _ in self._results() for problem in file.problems]

    @property
    def good(self) -> bool:
        return not (self.problems or (self.strict and self.all_warnings))

    @property
    def all_warnings(self) -> list[Problem]:
        return [warning for _, warnings, _ in self._results() for warning in warnings]

    def _results(self) -> Iterator[tuple[Input[Any], Sequence[Problem], str]]:
        """Iterate over the inputs, each with its warnings and, if it is good, a summary."""
        config = self.routes.value
        yield self.routes, config.warnings if config else (), self._summary()
        for tests in self.tests:
            number = counted(len(tests.value or ()), "case")
            yield tests, (), f"{tests.name} is good: {number}" if tests.value else ""

    def _summary(self) -> str:
        config = self.routes.value
        if config is None:
            return ""
        table = config.table
        number = f"{counted(len(table.routes), 'route')}, {counted(len(table.targets), 'target')}"
        files = f" in {len(config.files):,} files" if len(config.files) > 1 else ""
        digest = config.hash[:12] or "without its secrets"
        return f"{self.routes.name} is good: {number}{files}; {digest}"

    def texts(self) -> Iterator[str]:
        for file, warnings, summary in self._results():
            yield from map(str, file.problems)
            yield from (f"warning: {warning}" for warning in warnings)
            if summary:
                yield summary
        if self.strict and self.all_warnings:
            yield f"{self.routes.name} has warnings, which --strict does not allow"

    def checked(self) -> Iterator[Checked]:
        """Return the annotations; with --strict a warning is an error."""
        level: Literal["error", "warning"] = "error" if self.strict else "warning"
        for file, warnings, summary in self._results():
            yield Checked([*annotated(file.problems), *annotated(warnings, level)], summary)

    def as_json(self) -> dict[str, Any]:
        config = self.routes.value
        return {
            "good": self.good,
            "file": self.routes.name,
            "files": [file.name for file in self.routes.files],
            "problems": problems_json(self.problems),
            "warnings": problems_json(self.all_warnings),
            "routes": len(config.table.routes) if config else None,
            "targets": len(config.table.targets) if config else None,
            "hash": config.hash or None if config else None,
            "tests": " ".join(tests.name for tests in self.tests) or None,
            "cases": sum(len(tests.value or ()) for tests in self.tests) or None,
        }
