"""A SQLite file belongs to one process: others are refused, and what it knows in memory holds."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from router.store.admin import Action, Resend, Verb
from router.store.protocol import Stage, StoreFull
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.file import Known, lock_of
from router.store.sqlite.store import SqliteStore
from tests.store.records import LIMITS, NOW, T, add, awaiting, found, letter, record
from tests.support.command import Finished, one_line, run
from tests.support.serving import Serving, serving, target, with_door
from tests.support.sockets import HOST, free_port


def offline(store: Path) -> Finished:
    """A command that looks into the file itself."""
    return run("deliveries", "list", "--store", str(store))


def refusal(router: Serving, ops: int) -> str:
    url = f"http://{HOST}:{ops}"
    who = f"ebaas-router (pid {router.process.pid}, ops port {url})"
    return f"it is in use by {who}: ask that router with --url {url}"


def test_a_second_router_and_an_offline_command_are_refused(tmp_path: Path) -> None:
    """Both end with 3 and one line, which names the process and where to ask it; the first one
    goes on. After its stop a command works."""
    ops, store = free_port(), tmp_path / "store.db"
    with target() as ledger:
        with serving(tmp_path, {"ledger": ledger}, options=["--ops-port", str(ops)]) as first:
            config = ["--config", str(tmp_path / "routes.yaml"), "--store", str(store)]
            second = run("serve", *config, "--port", "0")
            for refused in (second, offline(store)):
                assert refused.returncode == 3
                assert refusal(first, ops) in one_line(refused.stderr)
            assert first.post("a") == "000"
            assert first.interrupt(signal.SIGTERM) == 0
        assert offline(store).returncode == 0


def test_who_may_use_the_file_may_use_its_router(tmp_path: Path) -> None:
    """A command on the same machine needs no token where the settings name the store, with tokens
    and without: the key is in the lock file, which only the store's user may read. A command that
    can't read it, or brings another key, may not act."""
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
            said = run(*pause, environ={**here, "EBAAS_ROUTER_STORE": str(store)})
            assert said.returncode == 0, said.stderr
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
    """Whoever comes next owns the file at once: a command, and a router."""
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
    """The lock belongs to whom the file belongs to."""
    store = tmp_path / "store.db"
    with target() as ledger, serving(tmp_path, {"ledger": ledger}):
        pass
    lock_of(store).unlink()
    os.chown(store, 65534, 65534)
    assert offline(store).returncode == 0
    assert lock_of(store).stat().st_uid == 65534


@pytest.mark.anyio
async def test_a_healthy_event_costs_no_query(tmp_path: Path) -> None:
    """Of a body that has no event SQLite is not asked; of one that has one it is, also after a
    restart."""
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
    """It is put into the file beside the store, by the same process."""
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path, LIMITS)
    ops = await SqliteAdmin.open(path, LIMITS)
    again = record(stage=Stage.CLOSED)
    action = Action("again", Verb.REPLAY, "ops", "", NOW)
    await ops.resend(action, "one", [Resend(again, letter(b"archived"), "mark")])
    assert await found(store, b"archived") == {again.event_id: again}
    await ops.close()
    await store.close()


@pytest.mark.anyio
async def test_what_is_deleted_costs_no_query_any_more(tmp_path: Path) -> None:
    """Nor does what found no room: the memory does not wear out."""
    limits = replace(LIMITS, max_rows=1, share=1.0)
    store = await SqliteStore.open(tmp_path / "store.db", limits)
    await add(store, awaiting())
    with pytest.raises(StoreFull):
        await add(store, awaiting())
    await store.end(NOW + 1e6, 9, T)
    assert await store.prune(NOW + 1e9, 9, T) == 1
    assert letter().digest not in store._known
    await store.close()


def test_counts_never_say_no_wrongly() -> None:
    """A count that is full stays so, whatever is removed."""
    known, digest = Known(), hashlib.sha256(b"body").digest()
    for _ in range(300):
        known.add(digest)
    for _ in range(300):
        known.remove(digest)
    assert digest in known
