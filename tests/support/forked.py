"""Processes of the command line without the start of an interpreter.

Each test worker has a process that has imported the router, and forks for each command. A start of
`serve` costs 0.08 s of CPU this way, 0.3 s otherwise. `command.run` starts an interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.preloaded"])


class Forked:
    """The part of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str]) -> None:
        out, theirs = _CONTEXT.Pipe(duplex=False)
        error, their_error = _CONTEXT.Pipe(duplex=False)
        with theirs, their_error:
            self._process = _CONTEXT.Process(
                target=_run, args=(arguments, folder, environ, theirs, their_error)
            )
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        with out, error:
            self.stdout, self.stderr = (
                os.fdopen(os.dup(each.fileno()), "rb") for each in (out, error)
            )

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("router", timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    arguments: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    out: Connection,
    error: Connection,
) -> None:
    """Become `python -m router`."""
    for number, pipe in ((1, out), (2, error)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = ["router", *arguments]
    # Also if the tests run in a shell's background, which ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from router.__main__ import main

    with (
        open(1, "w", encoding="utf-8", closefd=False) as sys.stdout,
        open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False) as sys.stderr,
    ):
        sys.exit(main())
