"""`diff`: whose plan changes between two configurations."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from router.cli.annotations import CI_FORMATS, say_checked
from router.cli.options import BAD, GOOD, STDIN, Help, add_format, add_settings, stdin
from router.cli.printing import note, say_json, say_lines
from router.cli.routes.inputs import Input, all_usable, mind_stdin, read_cases, read_config
from router.model.errors import SettingInvalid

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.comparison import Comparison
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
    add_format(parser, "markdown", *CI_FORMATS)


def run(args: argparse.Namespace) -> int:
    from router.config.comparison import Comparison

    mind_stdin([args.old, args.new, *(args.events or ()), *(args.tests or ())])
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
    from router.cli.routes.differences import as_json, told
    from router.cli.routes.review import checked, review
    from router.config.edits import edits_of

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
    from router.cli.routes.traffic import Traffic

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
