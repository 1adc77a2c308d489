"""A SQLite file has one owner: other processes are refused, and the owner's memory of it is
right."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from router.model.errors import StartFailed
from router.model.secret import Secret
from router.store.admin import Action, Resend, Verb
from router.store.protocol import NO_DOOR, Door, Stage, StoreFull
from router.store.sqlite import file
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.file import Known, Owner, door_of, lock_of, own
from router.store.sqlite.store import SqliteStore
from tests.store.records import LIMITS, NOW, SIZE, T, add, awaiting, found, letter, record
from tests.store.test_upgrade import killed_at
from tests.support.command import ROOT, Finished, one_line, run
from tests.support.disks import Disks, filled
from tests.support.effort import long
from tests.support.serving import Serving, serving, target, with_door
from tests.support.sockets import HOST, free_port
from tests.support.waiting import until


def offline(store: Path) -> Finished:
    """Run a command that opens the file itself."""
    return run("deliveries", "list", "--store", str(store))


def refusal(router: Serving, port: int) -> str:
    url = f"http://{HOST}:{port}"
    who = f"ebaas-router (pid {router.process.pid}, ops port {url})"
    return f"it is in use by {who}: ask that router with --url {url}"


def test_a_second_router_and_an_offline_command_are_refused(tmp_path: Path) -> None:
    """Both end with exit code 3 and one line, which names the process and its URL; the first router
    goes on. After its stop the command works."""
    port, store = free_port(), tmp_path / "store.db"
    with target() as ledger:
        with serving(tmp_path, {"ledger": ledger}, options=["--ops-port", str(port)]) as first:
            config = ["--config", str(tmp_path / "routes.yaml"), "--store", str(store)]
            second = run("serve", *config, "--port", "0")
            for refused in (second, offline(store)):
                assert refused.returncode == 3
                assert refusal(first, port) in one_line(refused.stderr)
            assert first.post("a") == "000"
            assert first.interrupt(signal.SIGTERM) == 0
        assert offline(store).returncode == 0


def test_a_user_of_the_file_may_use_its_router(tmp_path: Path) -> None:
    """A command on the same machine needs no token if its settings name the store: the key is in
    the lock file, which only the store's user may read. A command that cannot read it, or has
    another key, may not act."""
    store = tmp_path / "store.db"
    pause = ("pause", "ledger", "--until", "10m", "--because", "moving house")
    for options in ([], with_door(tmp_path)[0][2:]):
        port = str(free_port())
        here = {"EBAAS_ROUTER_OPS_PORT": port}
        with (
            target() as ledger,
            serving(tmp_path, {"ledger": ledger}, options=["--ops-port", port, *options]),
        ):
            assert stat.S_IMODE(lock_of(store).stat().st_mode) == 0o600
            message = run(*pause, environ={**here, "EBAAS_ROUTER_STORE": str(store)})
            assert message.returncode == 0, message.stderr
            other = run(
                "resume", "ledger", environ={**here, "EBAAS_ROUTER_STORE": str(tmp_path / "x")}
            )
            assert other.returncode == 3
            wrong = httpx.post(
                f"http://{HOST}:{port}/api/v1/targets/ledger/resume",
                json={},
                headers={"authorization": "Bearer not-the-key-of-this-router"},
                trust_env=False,
            )
            assert wrong.status_code in (401, 403)


def test_a_killed_router_leaves_no_lock(tmp_path: Path) -> None:
    """The next command or router owns the file at once."""
    store = tmp_path / "store.db"
    with target() as ledger:
        with serving(tmp_path, {"ledger": ledger}) as first:
            first.process.send_signal(signal.SIGKILL)
            first.wait()
        assert lock_of(store).exists()
        assert offline(store).returncode == 0
        with serving(tmp_path, {"ledger": ledger}) as second:
            assert second.post("a") == "000"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns files of others")
def test_a_command_of_root_does_not_lock_the_router_out(tmp_path: Path) -> None:
    """The lock belongs to the owner of the file."""
    store = tmp_path / "store.db"
    with target() as ledger, serving(tmp_path, {"ledger": ledger}):
        pass
    lock_of(store).unlink()
    os.chown(store, 65534, 65534)
    assert offline(store).returncode == 0
    assert lock_of(store).stat().st_uid == 65534


# The lock file, attacked.


def owner_elsewhere(store: Path) -> subprocess.CompletedProcess[str]:
    """Own the file in another process; its output is `owned`, or the reason why not."""
    code = "import sys; from pathlib import Path; from router.store.sqlite.file import own"
    code += "; own(Path(sys.argv[1])); print('owned')"
    command = [sys.executable, "-c", code, str(store)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def replace_by_link(lock: Path) -> None:
    lock.with_name("victim").write_text("precious")
    lock.symlink_to("victim")


def give_away(lock: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    lock.touch(0o666)
    os.chown(lock, 65534, 65534)


@pytest.mark.parametrize(
    ("replace_it", "why"),
    [
        (replace_by_link, "is not a regular file"),
        (Path.mkdir, "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (give_away, "belongs to another user (65534)"),
    ],
)
def test_only_a_file_of_our_own_is_locked(
    tmp_path: Path, replace_it: Callable[[Path], None], why: str
) -> None:
    """Anything else is neither changed nor read."""
    store = tmp_path / "store.db"
    replace_it(lock_of(store))
    before = lock_of(store).lstat()
    with pytest.raises(StartFailed, match=re.escape(f"{why}: delete it")):
        own(store, Door("http://127.0.0.1:1", Secret("key")))
    after = lock_of(store).lstat()
    assert (after.st_uid, after.st_mode, after.st_size) == (
        *(before.st_uid, before.st_mode, before.st_size),
    )
    assert "precious" in {each.read_text() for each in tmp_path.glob("victim")} | {"precious"}
    assert door_of(store) == NO_DOOR


@pytest.mark.parametrize("text", ["", '{"program": "ebaas-rou', "[]", "\0" * 4096])
def test_a_lock_files_text_does_not_matter(tmp_path: Path, text: str) -> None:
    """Its process may have been killed at any moment, or may not have written it yet."""
    store = tmp_path / "store.db"
    lock_of(store).write_text(text)
    assert door_of(store) == NO_DOOR
    with closing_owner(own(store)):
        lock_of(store).write_text(text)
        assert "it is in use by another process" in owner_elsewhere(store).stderr
    assert owner_elsewhere(store).stdout == "owned\n"


@long
@pytest.mark.parametrize("call", ["flock", "fchmod", "pwrite64"])
def test_a_kill_at_any_step_leaves_the_file_to_the_next_process(tmp_path: Path, call: str) -> None:
    """Before the lock, and before its text is written."""
    store = tmp_path / "store.db"
    assert killed_at(call, 1, store)
    assert owner_elsewhere(store).stdout == "owned\n"


def test_a_door_is_read_whole_while_it_is_written(tmp_path: Path) -> None:
    """A command reads either the former text or the new one."""
    store = tmp_path / "store.db"
    doors = [Door(f"http://127.0.0.1:{port}", Secret("k" * port)) for port in (1, 999)]
    with closing_owner(own(store, doors[0])) as owner, ThreadPoolExecutor() as threads:
        reading = threads.submit(lambda: [door_of(store) for _ in range(2000)])
        while not reading.done():
            for door in doors:
                owner.announce(door)
        assert {door.url for door in reading.result()} <= {door.url for door in doors}


def test_a_full_disk_leaves_no_lock_behind(disks: Disks) -> None:
    """The same process can own the file once there is room."""
    disk = disks.tmpfs(1)
    store = disk / "store.db"
    with filled(disk), pytest.raises(StartFailed, match="the disk is full"):
        own(store)
    with closing_owner(own(store)) as owner, filled(disk):
        owner.announce(Door("http://127.0.0.1:1", Secret("key")))
        assert door_of(store).url == "http://127.0.0.1:1"


@contextmanager
def closing_owner(owner: Owner) -> Iterator[Owner]:
    yield owner
    owner.release()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [SqliteStore, SqliteAdmin])
async def test_an_opening_that_is_cancelled_leaves_nothing_open(
    tmp_path: Path, kind: type[SqliteStore | SqliteAdmin]
) -> None:
    """Its thread goes on; the connection that it opens too late is closed."""
    path = tmp_path / "store.db"
    await (await SqliteStore.open(path, LIMITS)).close()
    with file._turn:  # the thread waits here
        opening = asyncio.ensure_future(kind.open(path, LIMITS))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    await asyncio.get_running_loop().shutdown_default_executor()
    await until(lambda: path not in file._owners)
    assert owner_elsewhere(path).stdout == "owned\n"


# What the owner knows in memory.


@pytest.mark.anyio
async def test_a_healthy_event_costs_no_query(tmp_path: Path) -> None:
    """SQLite is queried only for a body that has an event, also after a restart."""
    store = await SqliteStore.open(tmp_path / "store.db", LIMITS)
    of = await add(store, awaiting(), body=b"open")
    for _ in range(2):
        asked: list[str] = []
        assert store._reader is not None
        store._reader.set_trace_callback(asked.append)
        assert await found(store, b"healthy") == {}
        assert asked == []
        assert await found(store, b"open") == {of.event_id: of}
        assert asked
        await store.close()
        store = await SqliteStore.open(tmp_path / "store.db", LIMITS)
    await store.close()


@pytest.mark.anyio
async def test_an_event_that_a_person_sends_again_is_known(tmp_path: Path) -> None:
    """The same process adds it to the file, beside the store."""
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path, LIMITS)
    admin = await SqliteAdmin.open(path, LIMITS)
    again = record(stage=Stage.CLOSED)
    action = Action("again", Verb.REPLAY, "ops", "", NOW)
    await admin.resend(action, "one", [Resend(again, letter(b"archived"))])
    assert await found(store, b"archived") == {again.event_id: again}
    await admin.close()
    await store.close()


@pytest.mark.anyio
async def test_a_deleted_event_costs_no_query(tmp_path: Path) -> None:
    """Nor does an event that found no room."""
    limits = replace(LIMITS, max_bytes=SIZE, share=1.0)
    store = await SqliteStore.open(tmp_path / "store.db", limits)
    await add(store, awaiting())
    with pytest.raises(StoreFull):
        await add(store, awaiting())
    await store.end(NOW + 1e6, 9, T)
    assert await store.prune(NOW + 1e9, 9, T) == 1
    assert letter().digest not in store._known
    await store.close()


def test_counts_never_say_no_wrongly() -> None:
    """A count that has reached its maximum is never changed again."""
    known, digest = Known(), hashlib.sha256(b"body").digest()
    for _ in range(300):
        known.add(digest)
    for _ in range(300):
        known.remove(digest)
    assert digest in known
