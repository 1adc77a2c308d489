"""`check`: everything that a load checks, without a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.cli.options import BAD, GOOD, Help
from router.cli.printing import say, say_json
from router.cli.routes.inputs import (
    STDIN,
    Input,
    add_config,
    add_format,
    config_name,
    problems_json,
    read_cases,
    read_config,
)

if TYPE_CHECKING:
    from router.config import Case, Config

SUMMARY = "check a routes.yaml: every fault at once, each with its place"

HELP = Help(
    about="""Checks a routes.yaml, and the tests file beside it, as the router does when it loads
    it: every fault at once, in the file's order, each with line and column, and on a terminal with
    the line itself. Variables and secret files are looked up too. A warning is something that is
    allowed but probably not meant. FILE may be '-' for stdin.""",
    examples=(
        "ebaas-router check",
        "ebaas-router check config/routes.yaml --strict",
        "git show HEAD:config/routes.yaml | ebaas-router check -",
    ),
    exit_codes={
        GOOD: "good: the router would take it",
        BAD: "a fault, or a file that can't be read; with --strict, a warning too",
    },
)


def configure(parser: argparse.ArgumentParser) -> None:
    HELP.teach(parser)
    add_config(parser)
    parser.add_argument("--strict", action="store_true", help="let warnings fail too")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    name = config_name(args)
    routes, tests = read_config(name, args), _tests(name)
    warned = args.strict and routes.value is not None and bool(routes.value.warnings)
    good = not (routes.problems or tests.problems or warned)
    if args.format == "json":
        say_json(_as_json(routes, tests, good))
    else:
        for text in _report(routes, tests):
            for line in text.splitlines():
                say(line)
        if warned:
            say(f"{routes.name} has warnings, which --strict does not allow")
    return GOOD if good else BAD


def _tests(name: str) -> Input[tuple[Case, ...]]:
    """The tests file beside the configuration; without cases where there is none."""
    from router.config import CasesFile, beside

    found = beside(Path(name))
    if name == STDIN or not found.exists():
        return Input("", b"", CasesFile, ())
    return read_cases(str(found))


def _report(routes: Input[Config], tests: Input[tuple[Case, ...]]) -> Iterator[str]:
    from router.cli.columns import counted

    yield from routes.excerpts(routes.problems, sys.stdout)
    if routes.value is not None:
        warnings = routes.value.warnings
        yield from (f"warning: {text}" for text in routes.excerpts(warnings, sys.stdout))
        table = routes.value.table
        number = f"{counted(len(table.routes), 'route')}, {counted(len(table.targets), 'target')}"
        yield f"{routes.name} is good: {number}; {routes.value.hash[:12]}"
    yield from tests.excerpts(tests.problems, sys.stdout)
    if tests.value:
        yield f"{tests.name} is good: {counted(len(tests.value), 'case')}"


def _as_json(routes: Input[Config], tests: Input[tuple[Case, ...]], good: bool) -> dict[str, Any]:
    config = routes.value
    return {
        "good": good,
        "file": routes.name,
        "problems": problems_json([*routes.problems, *tests.problems]),
        "warnings": problems_json(config.warnings if config else ()),
        "routes": len(config.table.routes) if config else None,
        "targets": len(config.table.targets) if config else None,
        "hash": config.hash if config else None,
        "tests": tests.name or None,
        "cases": len(tests.value) if tests.value else None,
    }
