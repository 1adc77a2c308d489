"""The command line in the test's process, which is faster."""

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
from router.cli.options import Parser, read_settings
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
        """The only line, as JSON."""
        assert len(self.lines) == 1, self.out
        return json.loads(self.out)


def complaint(finished: Ran, code: int) -> str:
    """Return the only line of stderr. The run must have this exit code and no output."""
    assert (finished.code, finished.out) == (code, "")
    (line,) = finished.err.splitlines()
    return line


def ran(*arguments: str | Path, stdin: bytes = b"") -> Ran:
    """Run `ebaas-router` to its end, like `command.run`."""
    out, err = io.StringIO(), io.StringIO()
    with _stdin(stdin), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), without_waits(err.getvalue().encode()).decode())


def quick(*arguments: str, stdin: bytes = b"") -> Finished:
    """Run it like `command.run`, without the start of a process, which takes 0.25 s."""
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
    """Return the settings of `serve` with these options and variables (without their prefix)."""
    parser = Parser("serve")
    parser.settings()
    variables = {f"EBAAS_ROUTER_{name}": text for name, text in environ.items()}
    return read_settings(parser.read(arguments), variables)
