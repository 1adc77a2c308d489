"""`check`: every fault of a routes.yaml, or, with --print, what the router has of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from router.cli.annotations import CI_FORMATS, Checked, say_checked
from router.cli.options import BAD, GOOD, STDIN, Help, add_format
from router.cli.printing import note, say_as, say_json, say_lines
from router.cli.routes.inputs import (
    Input,
    add_config,
    add_without_secrets,
    annotated,
    config_names,
    problems_json,
    read_cases,
    read_config,
    usable,
)
from router.model.errors import ConfigInvalid, Problem, SettingInvalid

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.loading import Config


def say_effective(args: argparse.Namespace) -> int:
    """Print the FILE as a routes.yaml of the same meaning, but for what is masked."""
    from router.config.effective import effective_of

    names = config_names(args)
    if len(names) > 1:
        raise SettingInvalid("--print takes one FILE")
    if args.format in CI_FORMATS:
        raise SettingInvalid(f"--print has no format {args.format!r}")
    found = read_config(names[0], args)
    loaded = usable(found, args.format)
    if loaded is None:
        return BAD
    effective = effective_of(loaded)
    shape = {"file": found.name, "hash": loaded.hash, **effective}
    say_as(args.format, [shape], _lines(f"# {found.name}, hash {loaded.hash}", effective))
    return GOOD


def _lines(heading: str, effective: dict[str, Any]) -> Iterator[str]:
    from router.config.document import write

    yield heading
    yield from write(_escaped(effective)).splitlines()


def _escaped(value: Any) -> Any:
    """With every `$` doubled, as a routes.yaml has to have it."""
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


HELP = Help(
    about="""Checks a routes.yaml, or a folder with one and a routes.d, and the tests files beside,
    as the router does when it loads them: every fault at once, in the files' order, each with line
    and column, and on a terminal with the line itself. Variables and secret files are looked up
    too, unless --without-secrets lets placeholders stand for them. A warning is something that is
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
    add_config(parser, many=True)
    parser.add_argument(
        "--print",
        action="store_true",
        help="print what the router has of it: defaults filled in, variables replaced, secrets ***",
    )
    parser.add_argument("--strict", action="store_true", help="let warnings fail too")
    add_without_secrets(parser)
    add_format(parser, *CI_FORMATS)


def run(args: argparse.Namespace) -> int:
    if args.print:
        return say_effective(args)
    names = config_names(args)
    found = [_Found(read_config(name, args), _tests(name), args.strict) for name in names]
    _hint_at_folders(names)
    if args.format in CI_FORMATS:
        say_checked(args.format, "check", [one for each in found for one in each.checked()])
    for each in found:
        if args.format == "json":
            say_json(each.as_json())
        elif args.format == "text":
            for text in each.told():
                say_lines(text.splitlines())
    return GOOD if all(each.good for each in found) else BAD


def _hint_at_folders(names: Sequence[str]) -> None:
    """Say of a routes.yaml beside a routes.d that the files below that are not checked."""
    from router.config.files import COMMON, TEAMS

    for path in map(Path, names):
        if path.name == COMMON and path.is_file() and (teams := path.with_name(TEAMS)).is_dir():
            note(f"{teams} is not checked; `check {path.parent}` checks it with {path}")


def _tests(name: str) -> list[Input[tuple[Case, ...]]]:
    """The tests files of the configuration that are there."""
    from router.config.cases import tests_of

    try:
        return [] if name == STDIN else [read_cases(str(each)) for each in tests_of(Path(name))]
    except ConfigInvalid:  # as the configuration's own problems say
        return []


@dataclass(frozen=True, slots=True)
class _Found:
    """One routes.yaml, or a folder, and the tests files beside."""

    routes: Input[Config]
    tests: list[Input[tuple[Case, ...]]]
    strict: bool

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return self.routes.value.warnings if self.routes.value else ()

    def unknown(self, tests: Input[tuple[Case, ...]]) -> list[Problem]:
        """Warnings of a tests file: the targets in it that there are not."""
        from router.config.cases import unknown_targets

        config = self.routes.value
        return [*unknown_targets(tests.value or (), config.table.targets)] if config else []

    @property
    def all_warnings(self) -> list[Problem]:
        return [*self.warnings, *(problem for each in self.tests for problem in self.unknown(each))]

    @property
    def good(self) -> bool:
        bad = self.routes.problems or any(each.problems for each in self.tests)
        return not (bad or (self.strict and self.all_warnings))

    def told(self) -> Iterator[str]:
        yield from self.routes.excerpts(self.routes.problems, sys.stdout)
        excerpts = self.routes.excerpts(self.warnings, sys.stdout)
        yield from (f"warning: {text}" for text in excerpts)
        if self.routes.value is not None:
            yield self._summary(self.routes.value)
        for each in self.tests:
            yield from each.excerpts(each.problems, sys.stdout)
            excerpts = each.excerpts(self.unknown(each), sys.stdout)
            yield from (f"warning: {text}" for text in excerpts)
            if each.value:
                yield _counted(each.name, each.value)
        if self.strict and self.all_warnings:
            yield f"{self.routes.name} has warnings, which --strict does not allow"

    def _summary(self, config: Config) -> str:
        from router.cli.columns import counted

        table = config.table
        number = f"{counted(len(table.routes), 'route')}, {counted(len(table.targets), 'target')}"
        files = f" in {len(config.files):,} files" if len(config.files) > 1 else ""
        what = config.hash[:12] or "without its secrets"
        return f"{self.routes.name} is good: {number}{files}; {what}"

    def checked(self) -> Iterator[Checked]:
        """With --strict a warning is an error."""
        level: Literal["error", "warning"] = "error" if self.strict else "warning"
        config = self.routes.value
        said = self._summary(config) if config else ""
        found = [*annotated(self.routes.problems), *annotated(self.warnings, level)]
        yield Checked(found, said)
        for each in self.tests:
            said = _counted(each.name, each.value) if each.value else ""
            found = [*annotated(each.problems), *annotated(self.unknown(each), level)]
            yield Checked(found, said)

    def as_json(self) -> dict[str, Any]:
        config, problems = self.routes.value, list(self.routes.problems)
        cases = [case for each in self.tests for case in each.value or ()]
        return {
            "good": self.good,
            "file": self.routes.name,
            "files": [file.name for file, _ in self.routes.files],
            "problems": problems_json([*problems, *(p for t in self.tests for p in t.problems)]),
            "warnings": problems_json(self.all_warnings),
            "routes": len(config.table.routes) if config else None,
            "targets": len(config.table.targets) if config else None,
            "hash": config.hash or None if config else None,
            "tests": " ".join(each.name for each in self.tests) or None,
            "cases": len(cases) or None,
        }


def _counted(name: str, cases: tuple[Case, ...]) -> str:
    from router.cli.columns import counted

    return f"{name} is good: {counted(len(cases), 'case')}"
