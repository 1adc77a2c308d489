"""The files that a command is about: read, checked, and what is wrong with them told."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

from router.cli.options import add_settings, read_setting
from router.cli.printing import say_json
from router.model import ConfigInvalid, Problem, SettingInvalid
from router.telemetry import printable

if TYPE_CHECKING:
    from router.config import Case, Config, Section

T = TypeVar("T")

#: The argument that stands for standard input.
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Input(Generic[T]):
    """A file as it was found: what it says, or why it can't be used."""

    #: As it was given, which is how problems have it.
    name: str
    content: bytes
    #: What the file is to be.
    shape: type[Section]
    #: None where there are problems.
    value: T | None
    problems: tuple[Problem, ...] = ()

    def excerpts(self, problems: Collection[Problem], stream: IO[str]) -> Iterator[str]:
        """Each problem, and where the stream is a terminal the line that it is about."""
        from router.config import legible_source

        tell = (
            legible_source(self.content, self.shape).excerpt
            if problems and stream.isatty()
            else str
        )
        return map(tell, problems)


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of the result")


def add_config(parser: argparse.ArgumentParser) -> None:
    """What `config_name` reads."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="a routes.yaml, as --config")
    add_settings(parser, "config", "secrets_dir")


def config_name(args: argparse.Namespace) -> str:
    """The routes.yaml that is meant: FILE, or what serve would take."""
    if args.file is not None and args.config is not None:
        raise SettingInvalid("FILE and --config are the same: one of them can be given")
    return args.file or str(read_setting(args, "config"))


def read_config(name: str, args: argparse.Namespace) -> Input[Config]:
    """What the router would load with this environment."""
    from router import config
    from router.config import RoutesFile

    def parse(content: bytes, name: str) -> Config:
        return config.parse(content, name, os.environ, secrets_dir)

    secrets_dir = read_setting(args, "secrets_dir")
    return _read(name, parse, RoutesFile)


def read_cases(name: str) -> Input[tuple[Case, ...]]:
    from router.config import CasesFile, parse_cases

    return _read(name, parse_cases, CasesFile)


def usable(found: Input[T], format: str) -> T | None:
    """What the file says; where it can't be used, that is told: as the result to a machine, else
    as a message."""
    if found.value is None and format == "json":
        say_json({"problems": problems_json(found.problems)})
    elif found.value is None:
        with contextlib.suppress(OSError):
            for text in found.excerpts(found.problems, sys.stderr):
                print(*map(printable, text.splitlines()), sep="\n", file=sys.stderr)
    return found.value


def problems_json(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in problems]


def stdin() -> IO[bytes]:
    if sys.stdin is None:
        raise SettingInvalid("'-' can't be read: stdin is closed")
    return sys.stdin.buffer


def _read(name: str, parse: Callable[[bytes, str], T], shape: type[Section]) -> Input[T]:
    shown = "stdin" if name == STDIN else name
    content = b""
    try:
        content = _content(name)
        return Input(shown, content, shape, parse(content, shown))
    except ConfigInvalid as error:
        return Input(shown, content, shape, None, error.problems)


def _content(name: str) -> bytes:
    from router import config
    from router.config import MAX_SIZE

    if name == STDIN:
        return stdin().read(MAX_SIZE + 1)
    path = Path(name)
    if path.is_fifo():  # what a shell makes of <(...)
        with path.open("rb") as pipe:
            return pipe.read(MAX_SIZE + 1)
    return config.read(path)
