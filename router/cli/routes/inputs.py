"""Inputs of commands about routes: configurations, tests, and recorded events."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, TypeVar

from router.cli.annotations import CI_FORMATS, Annotation, Checked, say_checked
from router.cli.options import STDIN, add_settings, read_setting, stdin
from router.cli.printing import say_json
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import ConfigInvalid, Problem, SettingInvalid, may
from router.model.event import FIELDS, Event
from router.telemetry.log.lines import printable

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.files import Written
    from router.config.loading import Config
    from router.config.schema import Name


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Input(Generic[T]):
    """A file as it was found: what it says, or why it can't be used."""

    #: As it was given, which is how problems have it.
    name: str
    #: It, or the files of a folder, each with what it is to be.
    files: Sequence[tuple[Written, Name]]
    #: None where there are problems.
    value: T | None
    problems: tuple[Problem, ...] = ()

    def excerpts(self, problems: Collection[Problem], stream: IO[str]) -> Iterator[str]:
        """Each problem, and where the stream is a terminal the line that it is about."""
        from router.config.schema import legible_source

        if not problems or not stream.isatty():
            return map(str, problems)
        faulty = {problem.file for problem in problems}
        sources = {
            file.name: legible_source(file.content, format)
            for file, format in self.files
            if file.name in faulty
        }
        return (
            sources[each.file].excerpt(each) if each.file in sources else str(each)
            for each in problems
        )


def add_config(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    """What `config_names` reads."""
    nargs = "*" if many else "?"
    parser.add_argument("files", nargs=nargs, metavar="FILE", help="a routes.yaml, as --config")
    add_settings(parser, "config", "secrets_dir")


def add_without_secrets(parser: argparse.ArgumentParser) -> None:
    """What `read_config` heeds: for who has no secrets, such as CI."""
    parser.add_argument(
        "--without-secrets",
        action="store_true",
        help="let placeholders stand for tokens, signing secrets, headers, URLs and certificates "
        "whose variable or file is not there",
    )


def config_names(args: argparse.Namespace) -> list[str]:
    """The routes.yaml that are meant: each FILE, or what serve would take."""
    given: list[str] = [args.files] if isinstance(args.files, str) else args.files or []
    if given and args.config is not None:
        raise SettingInvalid("FILE and --config are the same: one of them can be given")
    check_stdin(given)
    return given or [str(read_setting(args, "config"))]


def check_stdin(files: Sequence[str]) -> None:
    """Raises SettingInvalid where several are it."""
    if files.count(STDIN) > 1:
        raise SettingInvalid("only one file can be '-', stdin")


def read_config(name: str, args: argparse.Namespace) -> Input[Config]:
    """What the router would load with this environment."""
    from router.config.loading import parse_files
    from router.config.parts import formats_of

    def parse(files: Sequence[Written]) -> Config:
        return parse_files(files, os.environ, secrets_dir, placeholders=placeholders)

    placeholders = getattr(args, "without_secrets", False)
    secrets_dir = read_setting(args, "secrets_dir")
    return _read(name, parse, formats_of)


def read_cases(name: str) -> Input[tuple[Case, ...]]:
    from router.config.cases import parse_cases

    def parse(files: Sequence[Written]) -> tuple[Case, ...]:
        return parse_cases(files[0].content, files[0].name)

    return _read(name, parse, lambda files: ["routes.test"] * len(files))


def usable(found: Input[T], format: str) -> T | None:
    """What the file says; where it can't be used, that is told as `all_usable` does."""
    all_usable([found], format)
    return found.value


def all_usable(found: Sequence[Input[Any]], format: str, command: str = "check") -> bool:
    """Whether they can be used; where some can't, that is told: as the result to a machine, else
    as a message."""
    bad = [each for each in found if each.value is None]
    if bad and format == "json":
        say_json({"problems": problems_json(p for each in bad for p in each.problems)})
    elif bad and format in CI_FORMATS:
        checked = [Checked(annotated(each.problems)) for each in bad]
        say_checked(format, command, checked)
    elif bad:
        with contextlib.suppress(OSError):
            for text in (text for each in bad for text in each.excerpts(each.problems, sys.stderr)):
                print(*map(printable, text.splitlines()), sep="\n", file=sys.stderr)
    return not bad


def annotated(
    problems: Iterable[Problem], level: Literal["error", "warning"] = "error"
) -> list[Annotation]:
    return [
        Annotation(
            level,
            f"{each.path}: {each.message}" if each.path else each.message,
            each.file,
            each.line,
            each.column,
        )
        for each in problems
    ]


def problems_json(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in problems]


def _read(
    name: str,
    parse: Callable[[Sequence[Written]], T],
    formats: Callable[[Sequence[Written]], Sequence[Name]],
) -> Input[T]:
    shown = "stdin" if name == STDIN else name
    files: Sequence[Written] = ()
    value: T | None = None
    problems: tuple[Problem, ...] = ()
    try:
        files = _files(name)
        value = parse(files)
    except ConfigInvalid as error:
        problems = error.problems
    return Input(shown, list(zip(files, formats(files), strict=True)), value, problems)


def _files(name: str) -> Sequence[Written]:
    from router.config.document import MAX_SIZE
    from router.config.files import Written, read

    if name == STDIN:
        return [Written("stdin", stdin().read(MAX_SIZE + 1))]
    path = Path(name)
    if may(path, os.F_OK) and path.is_fifo():  # what a shell makes of <(...)
        with path.open("rb") as pipe:
            return [Written(name, pipe.read(MAX_SIZE + 1))]
    files = read(path)
    return files if path.is_dir() else [files[0]._replace(name=name)]


#: The longest line that is looked at, in bytes; twice the largest callback by default.
MAX_EVENT_LINE = 2 * 1024 * 1024

#: How many different events are held at a time, in number and in characters of their fields.
_MAX_HELD, _MAX_CHARACTERS = 50_000, 16 * 1024 * 1024

#: The lines of the router's log that are about an event.
_HAPPENINGS = ("event", "unmatched")

#: The fields as the log writes them, where nothing in them is escaped. Looking for these alone
#: takes a fifth of the time that the whole line would.
_LOGGED = re.compile(
    rb'"happening":"(?:event|unmatched)",.*"event_key":"T","event_source":"T",'
    rb'"event_topic":"T","event_type":"T","event_status":"T"'.replace(b"T", rb"([ !#-\[\]-~]+)")
)

#: A line of the log that stands for many alike.
_SUM = re.compile(rb'"happening":"unmatched",.*"count":([0-9]{1,12}),"first":')

_Values = tuple[str, ...]


class Traffic:
    """The events in a stream, each with how many times it came, in bounded memory.

    A line is an event as EBaaS sends it, a line of the router's log, or a key alone, as JSON or as
    it is. Before a `{` there may be what collectors put there: a time, a container's name.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        #: Lines that are none of these, by now. Blank ones and the log's others don't count.
        self.skipped = 0

    def __iter__(self) -> Iterator[tuple[Event, int]]:
        """The same event may come again later, where there are many different ones."""
        held: Counter[_Values] = Counter()
        characters = 0
        for values, times in self._read():
            if values not in held:
                characters += sum(map(len, values))
            held[values] += times
            if len(held) >= _MAX_HELD or characters >= _MAX_CHARACTERS:
                yield from _events(held)
                held.clear()
                characters = 0
        yield from _events(held)

    def _read(self) -> Iterator[tuple[_Values, int]]:
        while line := self._stream.readline(MAX_EVENT_LINE):
            if len(line) == MAX_EVENT_LINE and not line.endswith(b"\n"):
                self._pass_over()
                continue
            values = _values(line)
            if values:
                summed = _SUM.search(line)
                yield values, int(summed[1]) if summed else 1
            elif values is None:
                self.skipped += 1

    def _pass_over(self) -> None:
        """The rest of a line that is too long."""
        self.skipped += 1
        while (rest := self._stream.readline(MAX_EVENT_LINE)) and not rest.endswith(b"\n"):
            pass


def _events(held: Counter[_Values]) -> Iterator[tuple[Event, int]]:
    for values, times in held.items():
        yield Event.of(dict(zip(FIELDS, values, strict=True))), times


def _values(line: bytes) -> _Values | None:
    """An event's five fields, those that are not said empty; `()` where there is nothing to say
    of the line, None where it is not understood."""
    if logged := _LOGGED.search(line):
        key, *four = logged.groups()
        return (*(value.decode() for value in four), key.decode())
    start = line.find(b"{")
    if start < 0 or line.lstrip().startswith(b'"'):
        return _key(line)
    try:
        said = parse_json(line[start:], ROUTER)
    except Unreadable:
        return None
    if not isinstance(said, dict):
        return None
    if said.get("happening", "event") not in _HAPPENINGS:
        return ()
    values = tuple(said.get(name) or "" for name in FIELDS)
    return values if _routable(values) else None


def _routable(values: tuple[Any, ...]) -> bool:
    """Whether these are strings of which the key is known: its own, or by all four others."""
    return all(isinstance(value, str) for value in values) and bool(values[4] or all(values[:4]))


def _key(line: bytes) -> _Values | None:
    text = line.decode("utf-8", "replace").strip()
    if text.startswith('"'):
        try:
            text = parse_json(text.encode(), ROUTER)
        except Unreadable:
            return None
    elif len(text.split()) > 1 or text.startswith("["):
        return None
    return ("", "", "", "", text) if text else ()
