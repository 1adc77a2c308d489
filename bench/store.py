"""What the store costs: python -m bench.store [EVENTS ROUNDS ROWS]

First the router's CPU time per event, user and system, of the real process, with three required
targets and one optional one on the same machine. The four cases take turns, round by round; the
median of the rounds is shown, and the median of what each took more than the same round without a
store. A failing event is sent once more at once, which succeeds, and both requests count as one
event. What is queued is due after the bench.

Then what one look-up and one step of the queue take of the thread that makes it, in a file with no
row and in one with many unsettled ones; and how long a router needs from its start until it is
ready, after a kill -9 in such files. The load average is shown beside all of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast
from urllib.request import urlopen

from bench.numbers import numbers
from router.model.event import Event, Letter
from router.store.promises import DeliveryRow, Record, Stage, State
from router.store.sqlite.file import connect
from router.store.sqlite.reading import find, queue
from router.store.sqlite.rows import Rows
from tests.support.filled import NO_LIMITS, fill

#: Callers at a time.
CALLERS = 32

#: How often each look-up and write is made.
TIMES = 1_000

#: How long a router may take to start, in seconds.
PATIENCE = 60.0

_LENGTH = re.compile(rb"(?i)content-length: *([0-9]+)")


class Case(NamedTuple):
    """One row of the first table."""

    title: str
    store: bool
    #: The name of the `n`-th event, which says what becomes of it.
    name: Callable[[int], str]


CASES = (
    Case("no store", store=False, name="fine-{}".format),
    Case("all well", store=True, name="fine-{}".format),
    Case("10 % fail once", store=True, name=lambda n: f"{'fails' if n % 10 == 0 else 'fine'}-{n}"),
    Case("all are queued", store=True, name="queues-{}".format),
)


class Target(asyncio.Protocol):
    """A target's side of one connection. It fails what is named so, once or always."""

    def __init__(self, prefix: str, failed: set[bytes] | None) -> None:
        self._marked = f'"{prefix}-'.encode()
        #: What it has failed and will acknowledge; None where it never will.
        self._failed = failed
        self._come = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._come += data
        head, found, rest = self._come.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if found else None
        if length is None or len(rest) < int(length[1]):
            return
        self._come = b""
        answer = b'{"code":"500"}' if self._fails(rest) else b'{"code":"000"}'
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n" + answer)

    def _fails(self, body: bytes) -> bool:
        if self._marked not in body:
            return False
        if self._failed is None:
            return True
        fails = body not in self._failed
        self._failed.add(body)
        return fails


@asynccontextmanager
async def target(prefix: str, *, heals: bool) -> AsyncIterator[str]:
    """A target's URL."""
    failed: set[bytes] | None = set() if heals else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Target(prefix, failed), "127.0.0.1", 0, backlog=512)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


class Router:
    """A `serve` process on one core."""

    def __init__(self, folder: Path, store: str, core: int = 0) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        limits = ("--store-max-bytes", "1000GiB", "--store-max-rows", "100000000")
        command = [sys.executable, "-m", "router", "serve", "--port", str(self.port)]
        command += ["--config", str(folder / "routes.yaml"), *limits]
        command += ["--log-format", "json"]
        began = time.perf_counter()
        self._process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            env={**os.environ, "EBAAS_ROUTER_OPS_PORT": "0", "EBAAS_ROUTER_STORE": store},
            stdout=subprocess.DEVNULL,
        )
        while not self._is_ready():
            if time.perf_counter() - began > PATIENCE or self._process.poll() is not None:
                raise SystemExit("the router does not start")
            time.sleep(0.005)
        #: From its start until it was ready, in seconds.
        self.start_seconds = time.perf_counter() - began

    @property
    def cpu_seconds(self) -> float:
        """Of all its threads so far."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in tasks) / 1e9

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """The body of the next one."""
    length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
    return await reader.readexactly(int(length[1]) if length else 0)


async def load(names: Sequence[str], *ports: int) -> list[float]:
    """Send these events; what fails once more, to another port where there is one. The seconds that
    each request took."""
    left = iter(names)
    seconds = []

    async def call(turn: int) -> None:
        mine = [*ports[turn % len(ports) :], *ports[: turn % len(ports)]]
        nodes = [await asyncio.open_connection("127.0.0.1", port) for port in mine]
        with ExitStack() as stack:
            for _, writer in nodes:
                stack.callback(writer.close)
            for name in left:
                body = _body(name)
                head = f"POST /callback HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
                for reader, writer in (nodes[0], nodes[-1]):
                    began = time.perf_counter()
                    writer.write(head.encode() + body)
                    answer = await _answer(reader)
                    seconds.append(time.perf_counter() - began)
                    if b'"000"' in answer:
                        break
                else:
                    raise SystemExit(f"{name} has failed twice")

    await asyncio.gather(*map(call, range(CALLERS)))
    return seconds


def _body(name: str) -> bytes:
    parts = {"event_source": "a", "event_topic": "gs", "event_type": "cert", "event_status": "1"}
    return json.dumps({**parts, "event_key": "a.gs.cert.1", "changes": [name]}).encode()


async def per_event(folder: Path, events: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of the router per event, for each case in each round."""
    found: dict[str, list[float]] = {case.title: [] for case in CASES}
    async with AsyncExitStack() as stack:
        urls = [
            await stack.enter_async_context(target(prefix, heals=prefix == "fails"))
            for prefix in ("none", "none", "fails", "queues")
        ]
        write_routes(folder, urls)
        routers = {}
        for number, case in enumerate(CASES):
            store = str(folder / f"{number}.db") if case.store else "none"
            routers[case.title] = await asyncio.to_thread(Router, folder, store)
        try:
            for each in range(rounds + 1):
                for case in CASES:
                    names = [case.name(n) for n in range(each * events, (each + 1) * events)]
                    router = routers[case.title]
                    before = router.cpu_seconds
                    await load(names, router.port)
                    found[case.title].append((router.cpu_seconds - before) / events)
        finally:
            for router in routers.values():
                router.kill()
    # The first round warms up.
    return {title: seconds[1:] for title, seconds in found.items()}


def write_routes(folder: Path, urls: Sequence[str]) -> None:
    names = ("one", "two", "three", "aside")
    table = {
        "version": 1,
        "queue": {"retries": 1, "waits": ["3600s"]},
        "targets": {
            name: {"url": url, "max_in_flight": 256} for name, url in zip(names, urls, strict=True)
        },
        "routes": [{"name": "all", "match": "*", "required": names[:3], "optional": names[3:]}],
    }
    (folder / "routes.yaml").write_text(json.dumps(table))


def per_step(store: Path) -> dict[str, float]:
    """Seconds for each step on a file, the median of many; each write is a commit of its own."""
    connection = connect(store)
    with closing(connection):
        writing = Rows(connection, NO_LIMITS)
        letters = [_letter(n) for n in range(TIMES)]
        digests = [letter.digest for letter in letters]
        rows = [DeliveryRow("one", State.ACKNOWLEDGED), DeliveryRow("side", State.QUEUED)]
        records = [
            Record(letter.digest.hex(), Stage.OPEN, 1.0, 1, 1.0, 2.0, 3.0, 4.0)
            for letter in letters
        ]
        commit = _committing(connection.execute)
        return {
            "look-up, nothing found": _median(lambda n: find(connection.cursor(), b"%d" % n)),
            "record": _median(commit(lambda n: writing.add(records[n], letters[n], rows))),
            "look-up and claim": _median(lambda n: find(connection.cursor(), digests[n])),
            "what is due, by target": _median(lambda n: queue(connection)),
            "take one": _median(commit(lambda n: writing.take("side", 10.0, 20.0, 1))),
            "acknowledge": _median(
                commit(lambda n: writing.acknowledge(records[n].event_id, "side", 10.0))
            ),
            "end a record": _median(commit(lambda n: writing.end(10.0, 1))),
            "delete": _median(commit(lambda n: writing.prune(1e6, 1))),
        }


def _letter(n: int) -> Letter:
    body = _body(f"step-{n}")
    event = Event("a", "gs", "cert", "1", "a.gs.cert.1", body)
    return Letter(event, hashlib.sha256(body).digest(), "bench")


def _committing(
    execute: Callable[[str], object],
) -> Callable[[Callable[[int], object]], Callable[[int], object]]:
    def commit(work: Callable[[int], object]) -> Callable[[int], object]:
        def whole(n: int) -> None:
            execute("BEGIN IMMEDIATE")
            work(n)
            execute("COMMIT")

        return whole

    return commit


def _median(work: Callable[[int], object]) -> float:
    seconds = []
    for n in range(TIMES):
        began = time.thread_time()
        work(n)
        seconds.append(time.thread_time() - began)
    return statistics.median(seconds)


def to_ready(folder: Path, store: Path) -> float:
    """Seconds from the start until ready, after a kill -9: the median of three."""
    Router(folder, str(store)).kill()
    seconds = []
    for _ in range(3):
        router = Router(folder, str(store))
        seconds.append(router.start_seconds)
        router.kill()
    return statistics.median(seconds)


@contextmanager
def loaded(what: str) -> Iterator[None]:
    """A table's title, and the load average that it was measured beside."""
    before = os.getloadavg()[0]
    yield
    print(f"{what}; load average {before:.1f} before, {os.getloadavg()[0]:.1f} after\n", flush=True)


def main(events: int, rounds: int, rows: int) -> None:
    with TemporaryDirectory(dir=".") as name:
        folder = Path(name).absolute()
        with loaded(f"CPU of the router, {rounds} rounds of {events:,} events"):
            found = asyncio.run(per_event(folder, events, rounds))
            print(f"{'case':<24}{'median µs':>11}{'least':>8}{'most':>8}{'over none':>11}")
            for title, each in found.items():
                median, least, most = (f(each) * 1e6 for f in (statistics.median, min, max))
                over = [a - b for a, b in zip(each, found[CASES[0].title], strict=True)]
                print(
                    f"{title:<24}{median:>11.1f}{least:>8.1f}{most:>8.1f}"
                    f"{statistics.median(over) * 1e6:>11.1f}"
                )
        short, long = folder / "short.db", folder / "long.db"
        fill(short, 0)
        fill(long, rows)
        with loaded(f"CPU of the calling thread, {TIMES:,} times each"):
            print(f"{'step':<24}{'0 rows, µs':>11}{f'{rows:,}':>12}")
            steps = [per_step(path) for path in (short, long)]
            for step, seconds in steps[0].items():
                print(f"{step:<24}{seconds * 1e6:>11.1f}{steps[1][step] * 1e6:>12.1f}")
        with loaded("From the start until ready, after a kill -9"):
            for title, path in (("0 rows", short), (f"{rows:,} rows", long)):
                print(f"{title:<24}{to_ready(folder, path):>9.2f} s")


if __name__ == "__main__":
    main(*numbers("store", __doc__, events=3_000, rounds=7, rows=1_000_000))
