"""Faults of a store's disk, file and lock, with the whole router as a real process:
docs/explanation/faults.md is the table. The long tests run with LONG=1: `make faults`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from router.model.event import Event, OutboundEvent
from router.store.protocol import DeliveryRow, Record, Settlement, Stage, State
from router.store.sqlite.file import connect
from router.store.sqlite.statements import Statements, find, queue, usage
from tests.store.faults import after, at_once, during, line_of, scene
from tests.support.command import PATIENCE, ROOT, one_line, run
from tests.support.disks import Disks, filled, quick_folder
from tests.support.effort import LONG, long
from tests.support.filled import NO_LIMITS, fill
from tests.support.house import routes
from tests.support.serving import states
from tests.support.waiting import wait_until

#: Of a store, and the process that has it open.
Fault = Callable[[Path, int], AbstractContextManager[None]]


@pytest.fixture
def quick() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


# The faults. Each is there while its block lasts.


@contextmanager
def full_disk(store: Path, _: int) -> Iterator[None]:
    with filled(store.parent):
        yield


@contextmanager
def read_only(store: Path, _: int) -> Iterator[None]:
    """Nobody can write to the file any more, neither root nor a process that has it open."""
    if shutil.which("chattr") is None:
        pytest.skip("no chattr on this machine")
    files = [str(store), f"{store}-wal"]
    subprocess.run(["chattr", "+i", *files], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


@contextmanager
def locked(store: Path, _: int) -> Iterator[None]:
    """Another program has begun a write transaction that does not end."""
    with closing(sqlite3.connect(store, isolation_level=None, timeout=PATIENCE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def failing_fsync(_: Path, pid: int) -> Iterator[None]:
    """The disk accepts writes and then reports that it could not keep them."""
    with traced(pid, "error=EIO"):
        yield


@contextmanager
def hanging_fsync(_: Path, pid: int) -> Iterator[None]:
    """The disk does not answer for ten minutes."""
    with traced(pid, "delay_enter=600s"):
        yield


@contextmanager
def slow_fsync(_: Path, pid: int) -> Iterator[None]:
    """The disk takes 100 ms for each commit: within what a reply has left for it."""
    with traced(pid, "delay_enter=100ms"):
        yield


@contextmanager
def traced(pid: int, what: str) -> Iterator[None]:
    """Let strace do this to each fsync of the process, while the block runs."""
    if not (shutil.which("strace") or (ROOT / ".tools/strace/usr/bin/strace").exists()):
        pytest.skip("no strace on this machine; scripts/strace fetches it")
    calls = "fdatasync,fsync"
    command = [str(ROOT / "scripts/strace"), "-f", "-o", "/dev/null", "-p", str(pid)]
    command += ["-e", f"trace={calls}", "-e", f"inject={calls}:{what}"]
    strace = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        wait_until(lambda: strace.poll() is not None or is_traced(pid))
        if strace.poll() is not None:
            pytest.skip("strace may not look at another process here")
        yield
    finally:
        strace.send_signal(signal.SIGTERM)
        strace.wait(PATIENCE)


def is_traced(pid: int) -> bool:
    """Return whether all threads of the process are traced."""
    statuses = ((each / "status").read_text() for each in Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in status for status in statuses)


class Case(NamedTuple):
    """A fault, and the disk that it needs."""

    fault: Fault
    #: The log's words for it; none where what fails is kept all the same.
    words: set[str]
    disk: Callable[[Disks], Path] | None = None


CASES = [
    pytest.param(
        Case(full_disk, {"full", "disk_full"}, disk=lambda disks: disks.tmpfs(40)), id="full_disk"
    ),
    pytest.param(
        Case(read_only, {"read_only", "io"}, disk=lambda disks: disks.ext4(64)),
        id="read_only",
        marks=long,
    ),
    pytest.param(Case(locked, {"slow", "locked"}), id="locked"),
    pytest.param(Case(failing_fsync, {"io"}), id="failing_fsync"),
    pytest.param(Case(hanging_fsync, {"slow"}), id="hanging_fsync", marks=long),
    pytest.param(Case(slow_fsync, set()), id="slow_fsync", marks=long),
]


@pytest.mark.parametrize("case", CASES)
def test_a_fault_costs_memory_and_nothing_else(
    case: Case, tmp_path: Path, quick: Path, disks: Disks
) -> None:
    """During the fault healthy events get their 000, failing ones their 500, `/readyz` stays 200,
    and nothing is acknowledged that could not be kept. Afterwards all is as before, without a
    restart: earlier records are still known, and new failures are recorded."""
    folder = case.disk(disks) if case.disk else quick
    store = folder / "store.db"
    with scene(tmp_path, store) as at:
        assert at.router.post("fails-before") == "500"
        assert at.router.post("queues-before") == "000"
        with case.fault(store, at.router.process.pid):
            during(at, case.words)
        after(at)
        assert len(at.strong.of("fails-before")) == 1
        assert len({got.webhook_id for got in at.weak.of("fails-before")}) == 1


def test_a_stop_writes_what_the_store_could_not_take(tmp_path: Path, quick: Path) -> None:
    """The queue stops with the signal. An acknowledgement that the store could not take since is
    written before the process ends."""
    store = quick / "store.db"
    with scene(tmp_path, store, "--drain-delay", "10m") as at:
        assert at.router.post("fails") == "500"
        at.healed.set()
        at.router.process.send_signal(signal.SIGTERM)
        wait_until(lambda: at.router.ready() == 503)
        with locked(store, at.router.process.pid):
            assert at.router.post("fails") == "500"
        assert at.router.interrupt(signal.SIGTERM) == 0  # hurries
    assert states(store)["fails"]["weak"] == "acknowledged"


def test_a_store_that_is_back_is_logged_once(tmp_path: Path, quick: Path) -> None:
    """After the lines about the failure, one line says that the store works again, and how long it
    failed."""
    store = quick / "store.db"
    with scene(tmp_path, store) as at:
        assert at.router.post("fails-before") == "500"
        assert not at.router.lines("store_back")
        with locked(store, at.router.process.pid):
            at.router.wait_for(lambda: at.router.lines("store"))
            assert not at.router.lines("store_back")
        at.router.wait_for(lambda: at.router.lines("store_back"))
        at.healed.set()
        assert at.router.post("fails-before") == "000"
        (line,) = at.router.lines("store_back")
        assert (line["level"], line["seconds"] >= 2.0) == ("info", True)


def test_a_file_that_is_gone_says_what_to_do(tmp_path: Path, quick: Path) -> None:
    """The log line has the advice, for people without the documentation at hand."""
    store = quick / "store.db"
    with scene(tmp_path, store) as at:
        assert at.router.post("fails-before") == "500"
        store.unlink()
        at.router.wait_for(lambda: at.router.lines("store"))
        line = at.router.lines("store")[0]
        assert line["error"] == "gone"
        assert line["detail"] == "its file or lock was deleted or replaced: restart the router"


@long
def test_a_disk_that_comes_back_is_used_again(tmp_path: Path, disks: Disks) -> None:
    """After a power cut of the disk alone, the router forwards without a memory until it is mounted
    again. Then it uses the disk's contents. It cannot tell records from before from events that got
    their 000 meanwhile, so retries of those records are delivered in full."""
    place = disks.ext4(64)
    with scene(tmp_path, place / "store.db") as at:
        assert at.router.post("fails-before") == "500"
        assert at.router.post("queues-before") == "000"
        disks.cut_power(place)
        during(at, {"io", "unreachable"})
        disks.restore_power(place)
        after(at)


def test_a_file_that_is_damaged_in_use_costs_memory_alone(quick: Path) -> None:
    """Events are forwarded without a memory. The next start refuses the file with one line, and
    makes a new one once it is moved away."""
    store = quick / "store.db"
    fill(store, 1000)
    with scene(quick, store) as at:
        overwrite(store)
        assert at.router.post("healthy") == "000"
        codes = at_once(at.router, "fails", "queues", "healthy-beside")
        assert codes == ["500", "500", "000"]
        assert line_of(at.router, "500", 1)["unrecorded"] in {"corrupt", "io", "sqlite"}
        assert at.router.ready() == 200
    assert refusal(quick, store).endswith(
        f"can't use the store {store}: it is damaged, or no database"
    )
    for file in quick.glob("store.db*"):
        file.rename(quick / f"broken-{file.name}")
    with scene(quick, store) as at:
        assert at.router.post("queues") == "000"


def overwrite(store: Path) -> None:
    """Overwrite every page but the first, which has the file's version."""
    with store.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(store.stat().st_size - 4096))


def refusal(folder: Path, store: Path) -> str:
    """Return the line of a `serve` that does not start."""
    config = str(folder / "routes.yaml")
    finished = run("serve", "--config", config, "--store", str(store), "--port", "0")
    assert finished.returncode == 3
    return one_line(finished.stderr)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        pytest.param(full_disk, "the disk is full", id="full_disk"),
        pytest.param(locked, "another process holds it locked", id="locked"),
    ],
)
def test_a_start_needs_a_store_that_works(
    fault: Fault, why: str, quick: Path, disks: Disks
) -> None:
    """A fault at the start is one line and exit code 3."""
    (quick / "routes.yaml").write_text(json.dumps(routes({"one": "http://127.0.0.1:1/"})))
    folder = disks.tmpfs(2) if fault is full_disk else quick
    fill(folder / "store.db", 10)
    with fault(folder / "store.db", 0):
        assert refusal(quick, folder / "store.db").endswith(why)


#: The number of unsettled events of a long file.
MANY = 1_000_000 if LONG else 5_000


@pytest.fixture(scope="module")
def lengthy() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        fill(Path(folder) / "store.db", MANY)
        yield Path(folder)


def test_a_long_file_is_as_quick_as_a_short_one(lengthy: Path, quick: Path) -> None:
    """A look-up, a claim, a close and each step of the queue take as many steps of SQLite beside
    many unsettled events as beside ten."""
    fill(quick / "short.db", 10)
    assert steps_of(lengthy / "store.db") == steps_of(quick / "short.db")


def steps_of(store: Path) -> dict[str, int]:
    """Count the steps of SQLite for each operation of a request and the queue."""
    record = Record("new", Stage.OPEN, 1.0, 1, 1.0, 2.0, 3.0, 4.0)
    letter = OutboundEvent(Event("a", "b", "c", "1", "a.b.c.1", b"body"), b"digest", "request")
    rows = [DeliveryRow("strong", State.AWAITING), DeliveryRow("side", State.QUEUED)]
    closed = replace(record, stage=Stage.CLOSED)
    settlement = Settlement(closed, rows[:1], b"digest", ["strong"], 2.0)
    connection = connect(store)
    with closing(connection):
        writing = Statements(connection, NO_LIMITS)
        work: dict[str, Callable[[], object]] = {
            "miss": lambda: find(connection, b"nothing"),
            "add": lambda: writing.add(record, letter, rows),
            "find": lambda: find(connection, b"digest"),
            "settle": lambda: writing.settle(settlement),
            "queue": lambda: queue(connection),
            "take": lambda: writing.lease("side", 10.0, 20.0, 8),
            "acknowledge": lambda: writing.acknowledge("new", "side", 10.0),
            "end": lambda: writing.end(10.0, 200),
            "usage": lambda: usage(connection, NO_LIMITS),
            "prune": lambda: writing.prune(1e6, 200),
        }
        return {name: steps(connection, each) for name, each in work.items()}


def steps(connection: sqlite3.Connection, work: Callable[[], object]) -> int:
    """Count the instructions of SQLite's virtual machine."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    connection.set_progress_handler(count, 1)
    work()
    connection.set_progress_handler(None, 0)
    return taken
