"""The start of a process: signals at any moment, closed streams, files for its user alone. Real
processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import PATIENCE, ROOT, environment, running
from tests.support.effort import LONG
from tests.support.serving import serving, target
from tests.support.sockets import free_port, is_ready
from tests.support.waiting import wait_until

Started = subprocess.Popen[bytes]

#: `python -m router` that reports when the interpreter has started. Before that Ctrl-C is Python's
#: alone, and may be a "Fatal Python error".
PYTHON_STARTED = b"started\n"
REPORTS_START = f"""
import os, runpy
os.write(2, {PYTHON_STARTED!r})
runpy.run_module("router", run_name="__main__", alter_sys=True)
"""


def handles(process: Started, number: int, how: str) -> bool:
    """Return whether a process catches (`SigCgt`) or ignores (`SigIgn`) a signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith(how))
    return bool(int(mask, 16) >> (number - 1) & 1)


def is_ours(process: Started) -> bool:
    """Return whether Ctrl-C is the router's now: left to the system, or handled by it."""
    left = not handles(process, signal.SIGINT, "SigCgt")
    return left or handles(process, signal.SIGTERM, "SigCgt")


def keep_ctrl_c() -> None:
    """A shell's background would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: Every second moment of a start; each with LONG=1: `make test-long`.
STEP = 1 if LONG else 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_a_start_ends_it(number: signal.Signals) -> None:
    """A signal ends it by the system's default action or in order, without a traceback."""
    for moment in range(0, 8, STEP):
        process = subprocess.Popen(
            [sys.executable, "-c", REPORTS_START, "serve", "--port", "0", "--store", "none"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            cwd=ROOT, env=environment(), preexec_fn=keep_ctrl_c,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            assert os.read(process.stderr.fileno(), len(PYTHON_STARTED)) == PYTHON_STARTED
            wait_until(lambda process=process: is_ours(process))  # type: ignore[misc]
            time.sleep(moment * 0.06)  # any moment will do
            process.send_signal(number)
            _, stderr = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.communicate()
        assert (process.returncode in (-number, 0), stderr) == (True, b"")


def test_a_closed_stdout_is_no_fault() -> None:
    """Output is dropped, and the exit code is the command's own."""
    with running("check", before="exec 1>&-") as check:
        assert (check.wait(), check.stderr) == (0, [])


def test_it_serves_and_stops_without_any_stream() -> None:
    """With stdin, stdout and stderr closed, no socket or store gets their numbers."""
    port, closed = free_port(), "exec 0<&- 1>&- 2>&-"
    with running("serve", "--port", str(port), "--store", "none", before=closed) as router:
        wait_until(lambda: router.process.poll() is not None or is_ready(port))
        folder = Path(f"/proc/{router.process.pid}/fd")
        streams = {str((folder / str(number)).readlink()) for number in range(3)}
        assert (router.interrupt(signal.SIGTERM), streams) == (0, {os.devnull})


def test_its_files_are_its_users_alone(tmp_path: Path) -> None:
    """Files are private and there is no core file; a store that all can read is warned of."""
    store = tmp_path / "store.db"
    with target() as endpoint:
        with serving(tmp_path, {"one": endpoint}, store=store) as router:
            assert not router.lines("config")
            status = Path(f"/proc/{router.process.pid}/status").read_text()
            limits = Path(f"/proc/{router.process.pid}/limits").read_text()
        store.chmod(0o644)
        tmp_path.chmod(0o755)
        with serving(tmp_path, {"one": endpoint}, store=store) as router:
            (line,) = router.lines("config")
    assert re.search(r"^Umask:\s+0077$", status, re.MULTILINE)
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE)
    assert "can read the store" in line["problem"]
