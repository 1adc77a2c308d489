"""`serve --workers`: several real processes at one port, and a parent that keeps them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.model.errors import StartFailed
from router.net.listening import SharedPort
from router.ops import Answers, Reports, Topic
from router.process import child
from router.process.child import Child
from router.process.workers import Workers
from router.telemetry.log import Log
from tests.support.command import PATIENCE, one_line, run
from tests.support.gated import gated, is_closed, troubles
from tests.support.serving import Serving, body, serving, target
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import until, wait_until
from tests.support.wire import PROBE, Line, heard, post

pytestmark = pytest.mark.anyio


class Pool:
    """A router with workers, seen through its ops port."""

    def __init__(self, router: Serving, ops: int) -> None:
        self.router = router
        self.ops = f"http://127.0.0.1:{ops}"

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.ask("/status").json()
        return status

    def ask(self, path: str) -> httpx.Response:
        return httpx.get(self.ops + path, timeout=PATIENCE, **PLAIN)

    def pids(self) -> list[int]:
        """The workers, once all of them answer in time."""
        found: dict[str, Any] = {}

        def answer() -> bool:
            found.update(self.status()["processes"])
            return not found["silent"]

        wait_until(answer)
        return [each["pid"] for each in found["each"]]


@contextmanager
def pool(folder: Path, *options: str) -> Iterator[Pool]:
    """A router with two workers, whose only target acknowledges at once."""
    ops = free_port()
    options = ("--workers", "2", "--ops-port", str(ops), *options)
    with target() as endpoint, serving(folder, {"one": endpoint}, options=options) as router:
        yield Pool(router, ops)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def connections_of(pid: int) -> int:
    """The sockets that a process has."""
    links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(link.startswith("socket:") for link in links)


def test_the_workers_share_what_comes(tmp_path: Path) -> None:
    """New connections are shared out among the workers; one line says that they serve, and the
    parent's ops port tells of both."""
    with pool(tmp_path) as both, ExitStack() as stack:
        (line,) = both.router.lines("serving")
        assert line["workers"] == 2
        before = {pid: connections_of(pid) for pid in both.pids()}
        lines = [stack.enter_context(Line(both.router.port)) for _ in range(64)]
        for each in lines:
            each.say(PROBE)
            assert heard(each).status == 200
        shares = [connections_of(pid) - count for pid, count in before.items()]
        assert len(shares) == 2
        assert min(shares) > 8  # of 64 that fall by chance
        assert both.ask("/metrics").status_code == 200
        assert both.router.interrupt(signal.SIGTERM) == 0
        assert troubles(both.router) == []


def test_a_worker_that_crashes_is_replaced(tmp_path: Path) -> None:
    """A killed worker is told of and comes back; meanwhile the other one serves."""
    with pool(tmp_path) as both:
        killed, other = both.pids()
        os.kill(killed, signal.SIGKILL)
        both.router.wait_for(lambda: both.router.lines("worker_ended"))
        assert both.router.post("meanwhile") == "000"
        (line,) = both.router.lines("worker_ended")
        assert (line["pid"], line["how"]) == (killed, "SIGKILL ended it")
        both.router.wait_for(lambda: both.router.lines("worker_up"))
        (line,) = both.router.lines("worker_up")
        assert sorted(both.pids()) == sorted([line["pid"], other])


def test_a_worker_that_can_not_come_back_is_no_reason_to_stop(tmp_path: Path) -> None:
    """With a routes.yaml that was broken meanwhile a killed worker stays away, with an alarm for
    each try, and comes back when it is mended."""
    with pool(tmp_path) as both:
        file = tmp_path / "routes.yaml"
        good = file.read_text()
        file.write_text("broken: [")
        os.kill(both.pids()[0], signal.SIGKILL)
        both.router.wait_for(lambda: len(both.router.lines("worker_ended")) > 2)
        assert "routes.yaml:1:9: " in both.router.lines("worker_ended")[1]["how"]
        assert both.router.post("meanwhile") == "000"
        file.write_text(good)
        both.router.wait_for(lambda: both.router.lines("worker_up"))


def test_a_killed_parent_takes_its_workers_along(tmp_path: Path) -> None:
    """After a kill -9 of the parent its workers finish what they have in flight, and go; the port
    is free again."""
    options = ("--workers", "2", "--drain-delay", "10m")
    with gated(tmp_path, *options) as (router, gate), ExitStack() as stack:
        workers = children(router.process.pid)
        assert len(workers) == 2
        lines = [stack.enter_context(Line(router.port)) for _ in range(8)]
        for each in lines:
            each.say(post(body=body(str(id(each)))))
        wait_until(lambda: gate.come == 8)
        router.process.kill()
        wait_until(lambda: is_closed(router))
        gate.open()
        assert [heard(each).status for each in lines] == [200] * 8
        wait_until(lambda: all(is_gone(pid) for pid in workers))


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_sighup_reloads_all_and_restarts_none(tmp_path: Path) -> None:
    """A SIGHUP to the parent reaches every worker, and the same ones go on."""
    with pool(tmp_path) as both:
        before = both.pids()
        file = tmp_path / "routes.yaml"
        file.write_text(file.read_text().replace('"all"', '"every"'))
        both.router.process.send_signal(signal.SIGHUP)
        both.router.wait_for(
            lambda: [line["result"] for line in both.router.lines("reload")] == ["taken"] * 2
        )
        assert both.pids() == before
        assert "different" not in str(both.status()["configuration"]["reasons"])


def test_a_signal_to_everybody_counts_once(tmp_path: Path) -> None:
    """Ctrl-C, and systemd's stop, reach the workers as well as their parent: that is one signal,
    and what is in flight is finished, in all of them. The ops port answers until then."""
    ops = free_port()
    options = ("--workers", "2", "--ops-port", str(ops), "--drain-timeout", "10m")
    with gated(tmp_path, *options) as (router, gate), ExitStack() as stack:
        both = Pool(router, ops)
        workers = both.pids()
        lines = [stack.enter_context(Line(router.port)) for _ in range(8)]
        for each in lines:
            each.say(post(body=body(str(id(each)))))
        wait_until(lambda: gate.come == 8)
        for pid in (router.process.pid, *workers):
            os.kill(pid, signal.SIGINT)
        wait_until(lambda: is_closed(router))
        assert sorted(both.pids()) == sorted(workers)
        gate.open()
        assert [heard(each).says["code"] for each in lines] == ["000"] * 8
        assert router.wait() == 0
        assert all(is_gone(pid) for pid in workers)
        assert troubles(router) == []


def test_a_second_signal_hurries_all(tmp_path: Path) -> None:
    """Two signals to the parent: what is in flight in any worker is told now."""
    options = ("--workers", "2", "--drain-timeout", "10m")
    with gated(tmp_path, *options) as (router, gate), ExitStack() as stack:
        lines = [stack.enter_context(Line(router.port)) for _ in range(8)]
        for each in lines:
            each.say(post(body=body(str(id(each)))))
        wait_until(lambda: gate.come == 8)
        for _ in range(2):
            router.process.send_signal(signal.SIGTERM)
            wait_until(lambda: is_closed(router))
        assert {heard(each).says["code"] for each in lines} <= {"500", "503"}
        assert router.wait() == 0


def test_a_failed_start_is_said_once(tmp_path: Path) -> None:
    """With a broken routes.yaml all workers fail: exit code 3, and one line, the worker's own."""
    file = tmp_path / "routes.yaml"
    file.write_text("version: 2")
    environ = {"EBAAS_ROUTER_PROT": "1"}  # is noted, once as well
    options = ("serve", "--port", "0", "--config", str(file))
    finished = run(*options, "--workers", "3", environ=environ)
    alone = run(*options, environ=environ)
    assert (finished.returncode, alone.returncode) == (3, 3)
    assert finished.stderr == alone.stderr
    assert finished.stdout == b""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_port_for_both_is_told(workers: str) -> None:
    """No other program uses it, so nothing has to be stopped."""
    options = ("--port", "8090", "--ops-port", "8090", "--host", "0.0.0.0", "--workers", workers)
    finished = run("serve", *options)
    assert finished.returncode == 2
    assert "--ops-port: 8090 is that of --port" in one_line(finished.stderr)


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """Workers share their port with each other and with nobody else; the ops port is nobody's."""
    with pool(tmp_path) as both:
        port, ops = str(both.router.port), both.ops.rpartition(":")[2]
        for workers in ("1", "2"):
            finished = run("serve", "--workers", workers, "--port", port)
            assert finished.returncode == 3
            assert "the port is taken" in one_line(finished.stderr)
        finished = run("serve", "--port", "0", "--store", "none", "--ops-port", ops)
        assert finished.returncode == 3
        assert "name another with --ops-port" in one_line(finished.stderr)


def test_one_process_has_its_ops_port_too(tmp_path: Path) -> None:
    """Without workers the only process answers on the ops port itself."""
    ops = free_port()
    options = ("--ops-port", str(ops))
    with target() as one, serving(tmp_path, {"one": one}, options=options) as router:
        assert Pool(router, ops).pids() == [router.process.pid]
        assert router.interrupt(signal.SIGTERM) == 0


# The parent, with workers that do as the test wants.

PREFACE = """
import asyncio, os, socket, sys
from router.ops.answers import Answers, Topic
from router.process.child import Control, Order
from router.telemetry.metrics import Metrics
line = socket.socket(fileno=int(sys.argv[1].split(",")[1]))
"""

#: Comes up, and crashes.
CRASHING = (
    PREFACE
    + """
line.sendall(b'{"up": {}}\\n')
sys.exit(7)
"""
)

#: Reports that it has been reloaded as often as it was told to.
COUNTING = (
    PREFACE
    + """
metrics, over = Metrics(), asyncio.Event()
def count():
    metrics.reloads["taken"] += 1
def report(_):
    return {"metrics": metrics.snapshot(), "status": {"pid": os.getpid()}}
async def main():
    deeds = {Order.RELOAD: count, Order.STOP: over.set}
    answers = Answers({Topic.REPORT: report}, {}, None)
    await asyncio.wait(
        [asyncio.ensure_future(Control(line).obey(deeds, answers, {}, over.set)),
         asyncio.ensure_future(over.wait())], return_when=asyncio.FIRST_COMPLETED)
asyncio.run(main())
"""
)


def workers(
    script: str, count: int, back_off: tuple[float, ...], silence: float | None = None
) -> Workers:
    command = [sys.executable, "-c", script]
    port = SharedPort("127.0.0.1", 0)
    log = Log(io.StringIO(), "json")
    return Workers(command, count, port, log, stop_within=1.0, silence=silence, back_off=back_off)


async def test_a_crash_loop_ends_the_whole() -> None:
    """A worker that comes up and ends again and again is given up, after as many tries as there
    are waits, with one clear line."""
    with pytest.raises(StartFailed, match=r"3 times in a row; .* exit code 7"):
        async with asyncio.timeout(PATIENCE):
            await workers(CRASHING, 1, (0.01, 0.01)).serve()


#: The first to start comes up and crashes; the second comes up once a third has started.
CRASHING_FIRST = COUNTING.replace(
    PREFACE,
    PREFACE
    + """
import itertools, time
def claimed(number):
    try:
        return open(f"MARKS/{number}", "x")
    except FileExistsError:
        return None
number = next(each for each in itertools.count() if claimed(each))
if number == 0:
    line.sendall(b'{"up": {}}\\n')
    sys.exit(7)
while number == 1 and not os.path.exists("MARKS/2"):
    time.sleep(0.01)
""",
)


async def test_a_crash_before_all_are_up_ends_nobody_else(tmp_path: Path) -> None:
    """One that has come up is replaced, as later; the whole is up once all are."""
    script = CRASHING_FIRST.replace("MARKS", str(tmp_path))
    service = workers(script, 2, (0.01,))
    serving = asyncio.create_task(service.serve())
    async with asyncio.timeout(PATIENCE):
        await service.up()
        assert not serving.done()
        service.stop()
        await serving
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]  # noqa: PTH208


async def test_what_a_dead_worker_has_counted_is_kept() -> None:
    """The numbers of all workers are summed; those of one that does not answer, or has died, are
    not lost, and one that does not answer is said so."""
    service = workers(COUNTING, 2, (0.01,))
    serving = asyncio.create_task(service.serve())
    await service.up()

    async def counts(taken: int, living: int, silent: int) -> list[int]:
        """The workers that answer, once there are these numbers."""
        async with asyncio.timeout(PATIENCE):
            while True:
                reports = await service.gather()
                now = reports.metrics["process"]["reloads"]["taken"]
                if (now, len(reports.living), reports.silent) == (taken, living, silent):
                    return [report["status"]["pid"] for report in reports.living]
                await asyncio.sleep(0.02)

    service.reload()
    first, _ = await counts(taken=2, living=2, silent=0)
    os.kill(first, signal.SIGSTOP)
    await counts(taken=2, living=1, silent=1)
    os.kill(first, signal.SIGKILL)
    await counts(taken=2, living=2, silent=0)
    service.reload()
    await counts(taken=4, living=2, silent=0)
    service.stop()
    await serving


async def test_a_worker_that_answers_nothing_is_replaced() -> None:
    """One whose loop is blocked, or that hangs otherwise, is killed after as long a silence as the
    service manager takes from the whole; the other one goes on."""
    service = workers(COUNTING, 2, (0.01,), silence=1.5)
    serving = asyncio.create_task(service.serve())
    await service.up()
    first, second = await living(service)
    os.kill(first, signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE):
        while first in (now := await living(service)) or len(now) < 2:
            await asyncio.sleep(0.02)
    assert second in now
    assert is_gone(first)
    service.stop()
    await serving


async def test_a_fault_in_asking_ends_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and the workers are asked again: a silent one would else live for ever."""
    monkeypatch.setattr("router.process.workers.REPORT_EVERY", 0.01)
    monkeypatch.setattr("router.telemetry.beside.AGAIN_AFTER", 0.01)
    stream, asked, gather = io.StringIO(), list[int](), Workers.gather

    async def once_faulty(self: Workers) -> Reports:
        asked.append(len(asked))
        if len(asked) == 1:
            raise KeyError("report")
        return await gather(self)

    monkeypatch.setattr(Workers, "gather", once_faulty)
    service = workers(COUNTING, 1, (0.01,))
    service._log = Log(stream, "json")
    serving = asyncio.create_task(service.serve())
    await service.up()
    await until(lambda: len(asked) > 2)
    service.stop()
    await serving
    assert '"at":"KeyError in once_faulty, test_workers.py line ' in stream.getvalue()


async def living(service: Workers) -> list[int]:
    """The workers that answer."""
    return [report["status"]["pid"] for report in (await service.gather()).living]


async def test_half_a_report_is_no_word() -> None:
    """A worker that is killed while it reports ends as any other."""
    code = (
        'import os, sys; os.write(int(sys.argv[1].split(\',\')[1]), b\'{"id": 1, "answer": {"met\')'
    )
    with socket.socket() as bound:
        worker = await Child.start([sys.executable, "-c", code], bound)
        assert await worker.attend(lambda: None, lambda: None) == "it ended with exit code 0"
    assert worker.report is None


async def test_an_answer_that_is_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent could not read it, and would end: it gets the next answer as ever."""
    monkeypatch.setattr(child, "LONGEST", 1024)
    answers = Answers({Topic.TABLE: lambda what: "x" * what}, {}, Log(io.StringIO(), "json"))
    ours, theirs = socket.socketpair()
    control = child.Control(theirs)
    obeying = asyncio.create_task(control.obey({}, answers, {}, lambda: None))
    reader, writer = await asyncio.open_connection(sock=ours, limit=child.LONGEST)
    assert await reader.readline() == b'{"up": {}}\n'
    said = []
    for number, length in enumerate((2000, 3)):
        writer.write(b'{"ask": "table", "what": %d, "id": %d}\n' % (length, number))
        async with asyncio.timeout(PATIENCE):
            said.append(json.loads(await reader.readline()))
    assert said == [{"id": 0, "answer": None}, {"id": 1, "answer": "xxx"}]
    writer.close()
    await obeying
    assert control._writer is not None
    control._writer.close()
    await asyncio.sleep(0)
