"""`check`: everything that a load checks, without a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from router.cli.annotations import CI_FORMATS, Checked, say_checked
from router.cli.options import BAD, GOOD, Help
from router.cli.printing import say, say_json
from router.cli.routes.inputs import (
    STDIN,
    Input,
    add_config,
    add_format,
    annotated,
    config_names,
    problems_json,
    read_cases,
    read_config,
)

if TYPE_CHECKING:
    from router.config import Case, Config
    from router.model import Problem

SUMMARY = "check a routes.yaml: every fault at once, each with its place"

HELP = Help(
    about="""Checks a routes.yaml, and the tests file beside it, as the router does when it loads
    it: every fault at once, in the file's order, each with line and column, and on a terminal with
    the line itself. Variables and secret files are looked up too. A warning is something that is
    allowed but probably not meant. FILE may be '-' for stdin; several are checked each by itself,
    and are a line of JSON each.""",
    examples=(
        "ebaas-router check",
        "ebaas-router check config/routes.yaml --strict",
        "ebaas-router check staging/routes.yaml production/routes.yaml --format github",
        "git show HEAD:config/routes.yaml | ebaas-router check -",
    ),
    exit_codes={
        GOOD: "good: the router would take it",
        BAD: "a fault, or a file that can't be read; with --strict, a warning too",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    add_config(parser, many=True)
    parser.add_argument("--strict", action="store_true", help="let warnings fail too")
    add_format(parser, *CI_FORMATS)


def run(args: argparse.Namespace) -> int:
    found = [
        _Found(read_config(name, args), _tests(name), args.strict) for name in config_names(args)
    ]
    if args.format in CI_FORMATS:
        say_checked(args.format, "check", [one for each in found for one in each.checked()])
    for each in found:
        if args.format == "json":
            say_json(each.as_json())
        elif args.format == "text":
            for text in each.told():
                for line in text.splitlines():
                    say(line)
    return GOOD if all(each.good for each in found) else BAD


def _tests(name: str) -> Input[tuple[Case, ...]]:
    """The tests file beside the configuration; without cases where there is none."""
    from router.config import CasesFile, beside

    found = beside(Path(name))
    if name == STDIN or not found.exists():
        return Input("", b"", CasesFile, ())
    return read_cases(str(found))


@dataclass(frozen=True, slots=True)
class _Found:
    """One routes.yaml and the tests file beside it."""

    routes: Input[Config]
    tests: Input[tuple[Case, ...]]
    strict: bool

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return self.routes.value.warnings if self.routes.value else ()

    @property
    def good(self) -> bool:
        return not (self.routes.problems or self.tests.problems or (self.strict and self.warnings))

    def told(self) -> Iterator[str]:
        yield from self.routes.excerpts(self.routes.problems, sys.stdout)
        excerpts = self.routes.excerpts(self.warnings, sys.stdout)
        yield from (f"warning: {text}" for text in excerpts)
        if self.routes.value is not None:
            yield self._summary(self.routes.value)
        yield from self.tests.excerpts(self.tests.problems, sys.stdout)
        if self.tests.value:
            yield self._counted(self.tests.value)
        if self.strict and self.warnings:
            yield f"{self.routes.name} has warnings, which --strict does not allow"

    def _summary(self, config: Config) -> str:
        from router.cli.columns import counted

        table = config.table
        number = f"{counted(len(table.routes), 'route')}, {counted(len(table.targets), 'target')}"
        return f"{self.routes.name} is good: {number}; {config.hash[:12]}"

    def _counted(self, cases: tuple[Case, ...]) -> str:
        from router.cli.columns import counted

        return f"{self.tests.name} is good: {counted(len(cases), 'case')}"

    def checked(self) -> Iterator[Checked]:
        """With --strict a warning is an error."""
        level: Literal["error", "warning"] = "error" if self.strict else "warning"
        config, cases = self.routes.value, self.tests.value
        said = self._summary(config) if config else ""
        found = [*annotated(self.routes.problems), *annotated(self.warnings, level)]
        yield Checked("check", self.routes.name, found, said)
        if self.tests.name:
            said = self._counted(cases) if cases else ""
            yield Checked("check", self.tests.name, annotated(self.tests.problems), said)

    def as_json(self) -> dict[str, Any]:
        config = self.routes.value
        return {
            "good": self.good,
            "file": self.routes.name,
            "problems": problems_json([*self.routes.problems, *self.tests.problems]),
            "warnings": problems_json(self.warnings),
            "routes": len(config.table.routes) if config else None,
            "targets": len(config.table.targets) if config else None,
            "hash": config.hash if config else None,
            "tests": self.tests.name or None,
            "cases": len(self.tests.value) if self.tests.value else None,
        }
