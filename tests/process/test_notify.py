"""What the service manager is told: a real datagram socket, and a real router that speaks to it."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from router.process.server import Notifier
from tests.support.command import PATIENCE
from tests.support.serving import Serving, serving, target

pytestmark = pytest.mark.anyio


class ServiceManager:
    """The socket of one, and what was said there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(address.replace("@", "\0"))

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def heard(self) -> dict[str, str]:
        """The next message."""
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def waiting(self) -> list[bytes]:
        """All messages that have come already."""
        self._socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self._socket.recv(4096))
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(PATIENCE)


@pytest.mark.parametrize("sign", ["", "@"], ids=["a file", "an abstract name"])
def test_a_manager_hears_of_each_turn(tmp_path: Path, sign: str) -> None:
    """That the router serves; that it reloads and has reloaded, and whether
    routes.yaml was refused, be it by SIGHUP or by itself; and that it stops, at once. The manager's
    socket is a file or has an abstract name."""
    with (
        ServiceManager(f"{sign}{tmp_path}/notify") as manager,
        target() as one,
        serving(
            tmp_path,
            {"one": one},
            environ={"NOTIFY_SOCKET": manager.address},
        ) as router,
    ):
        goes_through_its_turns(tmp_path / "routes.yaml", manager, router)


def goes_through_its_turns(file: Path, manager: ServiceManager, router: Serving) -> None:
    url = router.lines("serving")[0]["url"]
    good = {"READY": "1", "STATUS": f"Serving {url}"}
    assert manager.heard() == good

    def reloads() -> None:
        before = now()
        router.process.send_signal(signal.SIGHUP)
        told = manager.heard()
        assert (told["RELOADING"], told["STATUS"]) == ("1", "Reading routes.yaml")
        assert before < int(told["MONOTONIC_USEC"]) < now()

    reloads()
    assert manager.heard() == good
    text = file.read_text()
    file.write_text("version: 2")
    reloads()
    told = manager.heard()
    assert told["STATUS"] == f"Serving {url}; routes.yaml was refused, the log says why"
    file.write_text(text)
    while told != good:
        told = manager.heard()
    router.process.send_signal(signal.SIGTERM)
    assert manager.heard()["STOPPING"] == "1"
    assert router.wait() == 0
    assert manager.waiting() == []


def now() -> int:
    """The clock that managers compare by, in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(f"{tmp_path}/notify") as manager:
        yield manager


async def test_the_loop_feeds_the_watchdog_itself(manager: ServiceManager) -> None:
    """Every half of its time, after a stop too; and not while the loop is blocked."""
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": ""}
    notifier = Notifier(environ)
    assert (notifier.watchdog, environ) == (0.2, {})
    serving = asyncio.create_task(notifier.serve())
    fed = []
    for _ in range(6):
        assert await asyncio.to_thread(manager.heard) == {"WATCHDOG": "1"}
        fed.append(time.monotonic())
    # On a busy machine some are late, and not all.
    assert min(after - before for before, after in pairwise(fed)) < 0.15
    manager.waiting()
    time.sleep(0.3)  # noqa: ASYNC251 - the loop is to be blocked
    assert manager.waiting() == []
    notifier.stop()
    await serving
    told = [await asyncio.to_thread(manager.heard) for _ in range(3)]
    assert {"WATCHDOG": "1"} in told


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/at/all"])
async def test_without_a_manager_nothing_is_said(address: str) -> None:
    """Nor where it is of a kind that is not known, or away; and a watchdog that is another
    process's is not fed."""
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})
    assert notifier.watchdog is None
    serving = asyncio.create_task(notifier.serve())
    notifier.ready("http://127.0.0.1/")
    notifier.reloading()
    notifier.reloaded(successful=True)
    notifier.hurry()
    await serving
