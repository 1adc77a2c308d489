"""Inputs of the commands about routes: configurations, tests, and recorded events."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, TypeVar

from router.cli.annotations import CI_FORMATS, Annotation, Checked, say_checked
from router.cli.options import STDIN, read_setting, stdin
from router.cli.printing import say_json
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import ConfigInvalid, Problem, SettingInvalid, may
from router.model.event import FIELDS, Event
from router.telemetry.log.lines import printable

if TYPE_CHECKING:
    from router.config.cases import Case
    from router.config.files import Written
    from router.config.loading import Config


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Input(Generic[T]):
    """A file or folder, and its value or its problems."""

    #: As it was given, which is its name in problems.
    name: str
    files: Sequence[Written]
    #: None if there are problems.
    value: T | None
    problems: tuple[Problem, ...] = ()


def add_without_secrets(parser: argparse.ArgumentParser) -> None:
    """Add the option of `read_config` for places without secrets, such as CI."""
    parser.add_argument(
        "--without-secrets",
        action="store_true",
        help="let placeholders stand for tokens, signing secrets, headers, URLs and certificates "
        "whose variable or file is not there",
    )


def check_stdin(files: Sequence[str]) -> None:
    """Raises SettingInvalid if more than one file is stdin."""
    if files.count(STDIN) > 1:
        raise SettingInvalid("only one file can be '-', stdin")


def read_config(name: str, args: argparse.Namespace) -> Input[Config]:
    """Read what the router would load with this environment."""
    from router.config.loading import parse_files

    def parse(files: Sequence[Written]) -> Config:
        return parse_files(files, os.environ, secrets_dir, placeholders=placeholders)

    placeholders = getattr(args, "without_secrets", False)
    secrets_dir = read_setting(args, "secrets_dir")
    return _read(name, parse)


def read_cases(name: str) -> Input[tuple[Case, ...]]:
    from router.config.cases import parse_cases

    def parse(files: Sequence[Written]) -> tuple[Case, ...]:
        return parse_cases(files[0].content, files[0].name)

    return _read(name, parse)


def all_usable(inputs: Sequence[Input[Any]], format: str, command: str = "check") -> bool:
    """True if all inputs can be used. Their problems are the result for a machine, and else
    messages."""
    bad = [one for one in inputs if one.value is None]
    if bad and format == "json":
        say_json({"problems": problems_json(p for one in bad for p in one.problems)})
    elif bad and format in CI_FORMATS:
        say_checked(format, command, [Checked(annotated(one.problems)) for one in bad])
    elif bad:
        with contextlib.suppress(OSError):
            for problem in (problem for one in bad for problem in one.problems):
                print(printable(str(problem)), file=sys.stderr)
    return not bad


def annotated(
    problems: Iterable[Problem], level: Literal["error", "warning"] = "error"
) -> list[Annotation]:
    return [
        Annotation(
            level,
            f"{one.path}: {one.message}" if one.path else one.message,
            one.file,
            one.line,
            one.column,
        )
        for one in problems
    ]


def problems_json(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in problems]


def _read(name: str, parse: Callable[[Sequence[Written]], T]) -> Input[T]:
    files: Sequence[Written] = ()
    value: T | None = None
    problems: tuple[Problem, ...] = ()
    try:
        files = _files(name)
        value = parse(files)
    except ConfigInvalid as error:
        problems = error.problems
    shown = "stdin" if name == STDIN else name
    return Input(shown, files, value, problems)


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
    return files if path.is_dir() else [files[0]._replace(name=name)]


#: The longest line that is read, in bytes; twice the largest callback by default.
MAX_EVENT_LINE = 2 * 1024 * 1024


class Traffic:
    """The events in a stream of lines, each with the number of times that it came.

    A line is an event as EBaaS sends it, a line of the router's log, or a key alone, as JSON or as
    it is. A collector may have put a time or a container's name before a `{`.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        #: Lines that are none of these, so far; blank lines and other lines of the log not counted.
        self.skipped = 0

    def __iter__(self) -> Iterator[tuple[Event, int]]:
        while line := self._stream.readline(MAX_EVENT_LINE):
            try:
                if len(line) == MAX_EVENT_LINE and not line.endswith(b"\n"):
                    self._skip_rest()
                    raise Unreadable("too long")
                fields = _fields(line)
            except Unreadable:
                self.skipped += 1
            else:
                # A line of the log may stand for many events that no route matched.
                count = fields.get("count") if fields.get("happening") == "unmatched" else 1
                if fields:
                    yield Event.of(fields), count if isinstance(count, int) else 1

    def _skip_rest(self) -> None:
        while (rest := self._stream.readline(MAX_EVENT_LINE)) and not rest.endswith(b"\n"):
            pass


def _fields(line: bytes) -> dict[str, Any]:
    """Return the fields of an event, empty for a line about something else. Raises Unreadable."""
    start = line.find(b"{")
    if start < 0 or line.lstrip().startswith(b'"'):
        key = _key(line)
        return {"event_key": key} if key else {}
    fields = parse_json(line[start:], ROUTER)
    if fields.get("happening", "event") not in ("event", "unmatched"):
        return {}
    values = [fields.get(name) or "" for name in FIELDS]
    if all(isinstance(value, str) for value in values) and (values[4] or all(values[:4])):
        return dict(fields)
    raise Unreadable("no key")


def _key(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    if text.startswith('"'):
        return str(parse_json(text.encode(), ROUTER))
    if len(text.split()) > 1 or text.startswith("["):
        raise Unreadable("no key")
    return text
