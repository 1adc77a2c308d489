"""Messages to the service manager: a real socket, and a real router."""

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
from tests.support.serving import serving, target

pytestmark = pytest.mark.anyio


class ServiceManager:
    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(address.replace("@", "\0"))

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def receive(self) -> dict[str, str]:
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def waiting(self) -> list[bytes]:
        self._socket.setblocking(False)
        messages = []
        try:
            while True:
                messages.append(self._socket.recv(4096))
        except BlockingIOError:
            return messages
        finally:
            self._socket.settimeout(PATIENCE)


def test_a_manager_gets_each_change_of_state(tmp_path: Path) -> None:
    """The router reports that it serves; that it reloads and has reloaded, by SIGHUP or by itself,
    and whether routes.yaml was refused; and that it stops, at once."""
    with (
        ServiceManager(f"{tmp_path}/notify") as manager,
        target() as one,
        serving(tmp_path, {"one": one}, environ={"NOTIFY_SOCKET": manager.address}) as router,
    ):
        file = tmp_path / "routes.yaml"
        url = router.lines("serving")[0]["url"]
        good = {"READY": "1", "STATUS": f"Serving {url}"}
        assert manager.receive() == good

        def reloads() -> None:
            before = now()
            router.process.send_signal(signal.SIGHUP)
            message = manager.receive()
            assert (message["RELOADING"], message["STATUS"]) == ("1", "Reading routes.yaml")
            assert before < int(message["MONOTONIC_USEC"]) < now()

        reloads()
        assert manager.receive() == good
        text = file.read_text()
        file.write_text("version: 2")
        reloads()
        message = manager.receive()
        assert message["STATUS"] == f"Serving {url}; routes.yaml was refused, the log says why"
        file.write_text(text)
        while message != good:
            message = manager.receive()
        router.process.send_signal(signal.SIGTERM)
        assert manager.receive()["STOPPING"] == "1"
        assert router.wait() == 0
        assert manager.waiting() == []


def now() -> int:
    """Return the clock that managers compare with, in microseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.fixture(params=["", "@"], ids=["a file", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(f"{request.param}{tmp_path}/notify") as manager:
        yield manager


async def test_the_loop_feeds_the_watchdog_itself(manager: ServiceManager) -> None:
    """Every half of its time, after a stop too; but not while the loop is blocked."""
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": ""}
    notifier = Notifier(environ)
    assert (notifier.watchdog, environ) == (0.2, {})
    serving = asyncio.create_task(notifier.serve())
    fed = []
    for _ in range(6):
        assert await asyncio.to_thread(manager.receive) == {"WATCHDOG": "1"}
        fed.append(time.monotonic())
    # On a busy machine some are late, and not all.
    assert min(after - before for before, after in pairwise(fed)) < 0.15
    manager.waiting()
    time.sleep(0.3)  # noqa: ASYNC251 - the loop is to be blocked
    assert manager.waiting() == []
    notifier.stop()
    await serving
    message = [await asyncio.to_thread(manager.receive) for _ in range(3)]
    assert {"WATCHDOG": "1"} in message


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/at/all"])
async def test_without_a_manager_nothing_is_sent(address: str) -> None:
    """An unknown kind or an absent manager gets nothing; another's watchdog is not fed."""
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})
    assert notifier.watchdog is None
    serving = asyncio.create_task(notifier.serve())
    notifier.ready("http://127.0.0.1/")
    notifier.reloading()
    notifier.reloaded(successful=True)
    notifier.hurry()
    await serving


async def test_a_reload_that_ends_after_the_stop_is_not_reported(manager: ServiceManager) -> None:
    """A service that has reported its stop never reports again that it is ready."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    serving = asyncio.create_task(notifier.serve())
    notifier.ready("http://127.0.0.1/")
    notifier.reloading()
    notifier.stop()
    await serving
    notifier.reloaded(successful=True)
    first = [message.split(b"\n")[0] for message in manager.waiting()]
    assert first == [b"READY=1", b"RELOADING=1", b"STOPPING=1"]
