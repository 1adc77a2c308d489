"""Faults of a PostgreSQL server and of the way to it, with the whole router as a real process:
docs/explanation/faults.md has the table. The long tests run with LONG=1: `make postgresql`."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import count
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from tests.store.faults import Scene, after, at_once, during, line_of, scene
from tests.support.command import PATIENCE
from tests.support.disks import Disks, filled
from tests.support.effort import long
from tests.support.postgres import USER, Database, Server
from tests.support.proxy import Loss, Proxy, proxy
from tests.support.serving import Target, serving, states, target, unsettled
from tests.support.sockets import listens
from tests.support.waiting import wait_until


class Ground(NamedTuple):
    """A server, its database and the proxy before it."""

    server: Server
    #: As the router has it, through the proxy.
    database: Database
    way: Proxy


@pytest.fixture
def ground(postgresql: Server, database: Database) -> Iterator[Ground]:
    with proxy(postgresql.port) as way:
        yield Ground(postgresql, database.through(way.port), way)


#: It is there while its block lasts.
Fault = Callable[[Ground], AbstractContextManager[None]]


def crashed(at: Ground) -> AbstractContextManager[None]:
    return at.server.down(immediately=True)


def frozen(at: Ground) -> AbstractContextManager[None]:
    """Its processes stop, and their sockets stay open."""
    return at.server.hanging()


def refused(at: Ground) -> AbstractContextManager[None]:
    return at.way.refusing()


def with_setting(**settings: str) -> Fault:
    return lambda at: at.server.reloaded(**settings)


@contextmanager
def crowded(at: Ground) -> Iterator[None]:
    """Other clients use all connections."""
    at.server.rows(f"ALTER DATABASE {at.database.name} CONNECTION LIMIT 0")
    at.way.cut()
    try:
        yield
    finally:
        at.server.rows(f"ALTER DATABASE {at.database.name} CONNECTION LIMIT -1")


#: The words for a server that can't be asked; `slow` also comes where the machine is too busy.
AWAY = {"unreachable", "lost", "slow"}


def case(name: str, fault: Fault, words: set[str], *, readable: bool = False) -> Any:
    """A fault, and the log's words for it; no words if failures are kept all the same. Look-ups may
    go on. Only one of the faults is for a short run."""
    marks = () if name == "stopped" else (long,)
    return pytest.param(fault, words, readable, id=name, marks=marks)


@pytest.mark.parametrize(
    ("fault", "words", "readable"),
    [
        # As for maintenance: connections end, new ones are refused.
        case("stopped", lambda at: at.server.down(), AWAY),
        case("crashed", crashed, AWAY),
        case("frozen", frozen, AWAY),
        # A network that drops every packet.
        case("cut_off", lambda at: at.way.hanging(), AWAY),
        case("refused", refused, AWAY),
        # Each connection breaks at its first statement.
        case("resetting", lambda at: at.way.cutting(), AWAY),
        # 100 ms for each message: within what a reply has left for the store.
        case("slow", lambda at: at.way.slow(0.1), set(), readable=True),
        # A server that another one has replaced, and that does not know yet.
        case("read_only", with_setting(default_transaction_read_only="on"), {"read_only", *AWAY}),
        # Every commit waits for a synchronous standby, which is away.
        case(
            "unreplicated",
            with_setting(synchronous_standby_names="nobody"),
            {"slow"},
            readable=True,
        ),
        case("crowded", crowded, {"connections", *AWAY}),
    ],
)
def test_a_fault_costs_memory_and_nothing_else(
    fault: Fault, words: set[str], readable: bool, ground: Ground, tmp_path: Path
) -> None:
    """During the fault healthy events get their 000, failing ones their 500, `/readyz` stays 200,
    and nothing is acknowledged that could not be kept. Afterwards all is as before, without a
    restart: earlier records are still there, and new failures are recorded."""
    with scene(tmp_path, ground.database) as at:
        assert at.router.post("fails-before") == "500"
        assert at.router.post("queues-before") == "000"
        with fault(ground):
            during(at, words)
        after(at)
        if readable:
            assert len(at.strong.of("fails-before")) == 1


@pytest.mark.parametrize(
    "fault", [crashed, pytest.param(frozen, marks=long), pytest.param(refused, marks=long)]
)
def test_acknowledgements_of_an_outage_are_written_after_it(
    fault: Fault, ground: Ground, tmp_path: Path
) -> None:
    """Events fail and are recorded, and their retries get their `000` while the server is away.
    Once it is back, none of them awaits EBaaS, and there is no dead letter."""
    names, healed = [f"fails-{number}" for number in range(8)], threading.Event()
    with (
        target() as strong,
        target(lambda *_: "000" if healed.is_set() else "500") as weak,
        serving(tmp_path, both(strong, weak), store=ground.database) as router,
    ):
        assert at_once(router, *names) == ["500"] * 8
        healed.set()
        with fault(ground):
            assert at_once(router, *names) == ["000"] * 8
            router.wait_for(lambda: router.lines("store"))
        wait_until(lambda: ground.database.rows("SELECT spent_up_to > 0 FROM credit") == [("t",)])

        def left() -> list[str]:
            return [states(ground.database)[name]["weak"] for name in names]

        wait_until(lambda: "awaiting" not in left())
        assert left() == ["superseded"] * 8
        router.wait_for(lambda: router.lines("store_back"))
        (line,) = router.lines("store_back")
        assert line["made_good"] == 8


def test_a_start_without_an_archive_says_so(ground: Ground, tmp_path: Path) -> None:
    """By default the archive is beside the store's file, which there is none of."""
    with target() as strong, serving(tmp_path, {"strong": strong}, store=ground.database) as router:
        shown = [line["problem"] for line in router.lines("config")]
        assert len([problem for problem in shown if "archive is off" in problem]) == 1


@long
@pytest.mark.parametrize(
    ("fault", "mend", "error", "detail"),
    [
        (
            "REVOKE ALL ON usage FROM router",
            "GRANT ALL ON usage TO router",
            "refused",
            "permission denied for table usage",
        ),
        (
            "ALTER ROLE router NOLOGIN",
            "ALTER ROLE router LOGIN",
            "refused",
            "FATAL:  role … is not permitted to log in",
        ),
    ],
    ids=["rights", "login"],
)
def test_a_refusal_of_the_server_is_logged(
    fault: str, mend: str, error: str, detail: str, ground: Ground, tmp_path: Path
) -> None:
    """In the server's own words, without the names that it quotes. Once it is repaired, the router
    works again."""
    with target() as strong, serving(tmp_path, {"strong": strong}, store=ground.database) as router:
        ground.database.rows(fault)
        ground.way.cut()

        def shown() -> set[tuple[str, str]]:
            return {(line["error"], line.get("detail", "")) for line in router.lines("store")}

        try:
            router.wait_for(lambda: (error, detail) in shown())
        finally:
            ground.database.rows(mend)
        router.wait_for(lambda: router.lines("store_back"))


# A commit whose outcome nobody knows: the server has made it, and the connection breaks.


@pytest.mark.parametrize("loss", Loss)
def test_a_connection_that_breaks_once_costs_nothing(
    loss: Loss, ground: Ground, tmp_path: Path
) -> None:
    """The statement is sent again and takes effect once, whether the server had got it or not. The
    failure is recorded, the queued delivery is queued, and the close has its 000."""
    with scene(tmp_path, ground.database) as at:
        with ground.way.losing(sign_of("fails-once"), loss, once=True):
            assert at.router.post("fails-once") == "500"
        with ground.way.losing(sign_of("queues-once"), loss, once=True):
            assert at.router.post("queues-once") == "000"
        assert ground.way.lost == 2
        at.healed.set()
        ((event_id,),) = ground.database.rows("SELECT event_id FROM events WHERE stage = 'open'")
        with ground.way.losing(event_id.encode(), loss, once=True):
            assert at.router.post("fails-once") == "000"
        assert ground.way.lost == 3
        assert [got.code for got in at.weak.of("fails-once")] == ["500", "000"]
        assert len(at.strong.of("fails-once")) == 1
        wait_until(lambda: at.aside.of("queues-once")[-1].code == "000")


@long
@pytest.mark.parametrize("name", ["fails-lost", "queues-lost"])
def test_an_event_whose_commit_got_lost(name: str, ground: Ground, tmp_path: Path) -> None:
    """However often it is tried, the line says that it may not be recorded, and there is no 000.
    The retry gets its 000 from every target's own acknowledgement, whether the record is found or
    not."""
    with scene(tmp_path, ground.database) as at:
        with ground.way.losing(sign_of(name), Loss.ANSWERING):
            assert at.router.post(name) == "500"
            assert line_of(at.router, "500", 1)["unrecorded"] in AWAY
        at.healed.set()
        wait_until(lambda: at.router.post(name) == "000")
        wait_until(lambda: not unsettled(at.store))
        failed = at.weak if name == "fails-lost" else at.aside
        assert failed.of(name)[-1].code == "000"


@long
def test_a_close_whose_commit_got_lost(ground: Ground, tmp_path: Path) -> None:
    """The retry whose close may have failed gets a failure. The next one is delivered as a new
    event, so no 000 relies on credit that may be used up."""
    with scene(tmp_path, ground.database) as at:
        assert at.router.post("fails-close") == "500"
        ((event_id,),) = ground.database.rows("SELECT event_id FROM events")
        at.healed.set()
        with ground.way.losing(event_id.encode(), Loss.ANSWERING):
            assert at.router.post("fails-close") == "500"
        wait_until(lambda: at.router.post("fails-close") == "000")
        assert [got.code for got in at.weak.of("fails-close")] == ["500", "000", "000"]
        assert ground.database.rows("SELECT event_id FROM events WHERE stage = 'open'") == []


def sign_of(name: str) -> bytes:
    """Return the part of an event's record that no other has: its name, as its body is sent."""
    return name.encode().hex().encode()


#: The bytes that a standby has yet to replay; no row without a standby.
_BEHIND = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication"


@contextmanager
def standing_by(ground: Ground, folder: Path) -> Iterator[tuple[Server, Scene]]:
    """Start a standby of the server, and a router whose store is at the end of the proxy."""
    with closing(Server(primary=ground.server)) as standby:
        standby.start()
        with scene(folder, Database(standby, ground.database.name, ground.way.port)) as at:
            yield standby, at


@long
def test_a_failover(ground: Ground, tmp_path: Path) -> None:
    """The server is lost, and another takes its address: first as a standby, which refuses writes,
    then as the primary. It knows the records, and no router is restarted."""
    with standing_by(ground, tmp_path) as (standby, at):
        assert at.router.post("fails-before") == "500"
        assert at.router.post("queues-before") == "000"
        wait_until(lambda: ground.server.rows(_BEHIND) == [("0",)])
        assert {"fails-before", "queues-before"} <= states(at.store).keys()
        with ground.server.down(immediately=True):
            ground.way.to = standby.port
            ground.way.cut()
            during(at, {"read_only", *AWAY})
            wait_until(lambda: is_refused(at))
            standby.rows("SELECT pg_promote()")
            after(at)


@long
def test_a_failover_that_lost_the_last_commits(ground: Ground, tmp_path: Path) -> None:
    """A record had its 000, and is still open at the new server: the next event of that body is
    delivered in full, though no event was answered during the outage."""
    with standing_by(ground, tmp_path) as (standby, at):
        assert at.router.post("fails") == "500"
        wait_until(lambda: ground.server.rows(_BEHIND) == [("0",)])
        standby.stop()
        at.healed.set()
        assert at.router.post("fails") == "000"
        with ground.server.down(immediately=True):
            standby.start()
            standby.rows("SELECT pg_promote()")
            ground.way.to = standby.port
            ground.way.cut()
            wait_until(lambda: standby.rows(CONNECTED))
            assert states(at.store)["fails"]["weak"] == "awaiting"
            assert at.router.post("fails") == "000"
            assert [got.code for got in at.strong.of("fails")] == ["000", "000"]


def is_refused(at: Scene) -> bool:
    """Return whether the router has reached the new server, which refuses writes."""
    at.router.post("fails-there")
    return any(line.get("unrecorded") == "read_only" for line in at.router.lines("event"))


# Disks.


@pytest.fixture
def disk(postgresql: Server) -> Iterator[Path]:
    """A small disk, which the server may write to."""
    with TemporaryDirectory(dir=postgresql.folder) as folder, closing(Disks(Path(folder))) as own:
        Path(folder).chmod(0o711)
        place = own.tmpfs(64)
        shutil.chown(place, *postgresql.owner)
        yield place


def overfill(at: Scene, words: set[str]) -> None:
    """Record events until one finds no room."""
    for number in range(2000):
        assert at.router.post(f"fails-{number}") == "500"
        if line_of(at.router, "500", number + 1).get("unrecorded") in words:
            return
    pytest.fail("there was room for all of them")


@long
def test_a_full_disk_of_the_database(ground: Ground, disk: Path, tmp_path: Path) -> None:
    """The server runs, and has no room for another row. Events go on, and are recorded again once
    there is room."""
    ground.server.rows(f"CREATE TABLESPACE small LOCATION '{disk}'")
    ground.server.rows(f"ALTER DATABASE {ground.database.name} SET TABLESPACE small")
    try:
        with scene(tmp_path, ground.database) as at:
            with filled(disk):
                overfill(at, {"disk_full"})
                assert at.router.post("healthy") == "000"
                assert at.router.ready() == 200
            recovers(at)
    finally:
        ground.server.rows(f"ALTER DATABASE {ground.database.name} SET TABLESPACE pg_default")
        ground.server.rows("DROP TABLESPACE small")


@long
def test_a_full_disk_of_the_log(disk: Path, tmp_path: Path) -> None:
    """The server ends itself, since it cannot write its log. Events go on without it, and all is as
    before once there is room and it was started."""
    server = Server(wal=disk / "wal")
    with closing(server):
        server.start()
        with server.database() as database, scene(tmp_path, database) as at:
            assert at.router.post("fails-before") == "500"
            assert at.router.post("queues-before") == "000"
            with filled(disk):
                with pytest.raises(CalledProcessError):
                    wait_until(lambda: not server.rows("SELECT pg_switch_wal()"))
                wait_until(lambda: not listens(server.port))
                during(at, AWAY)
            server.start()
            after(at)


def recovers(at: Scene) -> None:
    """The first of many failed events is still known, and so is a new one."""
    wait_until(lambda: at.router.post("fails-after") == "500" and "fails-after" in states(at.store))
    at.healed.set()
    for name in ("fails-0", "fails-after"):
        assert at.router.post(name) == "000"
    wait_until(lambda: at.router.post("queues-after") == "000")
    assert states(at.store)["fails-after"]["weak"] == "acknowledged"


# Two nodes.


def test_a_node_that_is_cut_off_with_a_claim(ground: Ground, tmp_path: Path) -> None:
    """A node has claimed a record when it loses the store. The caller's next retry goes on with the
    record at the other node. The first node gives no 000, since it could not close the record."""
    holding, go = threading.Event(), threading.Event()
    times = count(1)

    def hesitates(_: str, __: str) -> str:
        match next(times):
            case 1:
                return "500"
            case 2:
                holding.set()
                assert go.wait(PATIENCE)
        return "000"

    with (
        target() as strong,
        target(hesitates) as weak,
        serving(folder(tmp_path, "one"), both(strong, weak), store=ground.database) as one,
        serving(folder(tmp_path, "two"), both(strong, weak), store=beside(ground)) as two,
        ThreadPoolExecutor() as threads,
    ):
        assert one.post("claimed") == "500"
        first = threads.submit(one.post, "claimed")
        assert holding.wait(PATIENCE)
        with ground.way.hanging():
            assert two.post("claimed") == "000"
            go.set()
            assert first.result(PATIENCE) == "500"
        assert len(strong.of("claimed")) == 1
        wait_until(lambda: "store" not in one.lines("event")[-1] and one.post("after") == "000")
        assert states(ground.database).get("claimed", {}).get("weak") == "acknowledged"


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


#: A router has long been connected, and so knows that the server is there: its beats and the like
#: have had answers.
CONNECTED = (
    f"SELECT pid FROM pg_stat_activity WHERE usename = '{USER}' AND state = 'idle' "
    "AND backend_start < clock_timestamp() - interval '1500 ms'"
)


@long
def test_a_stop_revokes_credit_for_blind_replies(ground: Ground, tmp_path: Path) -> None:
    """A 000 that was given while the store was away may have been due to a record. A node that
    stops before its upkeep revokes that record's credit first."""
    holding, go = threading.Event(), threading.Event()

    def holds(name: str, _: str) -> str:
        if name == "held":
            holding.set()
            assert go.wait(PATIENCE)
        return "500" if name == "recorded" else "000"

    with (
        target(holds) as strong,
        serving(tmp_path, {"strong": strong}, store=ground.database) as router,
        ThreadPoolExecutor() as threads,
    ):
        assert router.post("recorded") == "500"
        with ground.way.refusing():
            assert router.post("blindly") == "000"
            held = threads.submit(router.post, "held")
            assert holding.wait(PATIENCE)
            router.process.send_signal(signal.SIGTERM)
            router.wait_for(lambda: router.lines("stopping"))
        wait_until(lambda: ground.database.rows(CONNECTED))
        go.set()
        assert held.result(PATIENCE) == "000"
        assert router.wait() == 0
    assert ground.database.rows("SELECT spent_up_to > 0 FROM credit") == [("t",)]


def both(strong: Target, weak: Target) -> dict[str, Target]:
    return {"strong": strong, "weak": weak}


def beside(ground: Ground) -> Database:
    """Return the same database without the proxy."""
    return ground.database.through(ground.server.port)
