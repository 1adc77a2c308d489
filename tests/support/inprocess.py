"""The command line run within the test's own process: quick, where no real stream is needed."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.cli import main
from router.cli.options import Parser, add_settings, read_settings
from router.config.settings import Settings
from tests.support.command import Finished, without_waits


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """The one line of a `--format json`."""
        assert len(self.lines) == 1, self.out
        return json.loads(self.out)


def complaint(finished: Ran, code: int) -> str:
    """The only line of a run that ends with this code and has no result."""
    assert (finished.code, finished.out) == (code, "")
    (line,) = finished.err.splitlines()
    return line


def ran(*arguments: str | Path, stdin: bytes = b"") -> Ran:
    """A whole run of `ebaas-router`, as `run` of a process has it."""
    out, err = io.StringIO(), io.StringIO()
    with _stdin(stdin), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), without_waits(err.getvalue().encode()).decode())


def quick(*arguments: str, stdin: bytes = b"") -> Finished:
    """The same, as `run` of a process gives it: a start takes a quarter of a second of a core."""
    result = ran(*arguments, stdin=stdin)
    return Finished(arguments, result.code, result.out.encode(), result.err.encode())


@contextlib.contextmanager
def _stdin(content: bytes) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(content))
    try:
        yield
    finally:
        sys.stdin = before


def read(*arguments: str, **environ: str) -> Settings:
    """The settings of `serve` with these options and variables (without their prefix)."""
    parser = Parser("serve")
    add_settings(parser)
    variables = {f"EBAAS_ROUTER_{name}": text for name, text in environ.items()}
    return read_settings(parser.read(arguments), variables)
