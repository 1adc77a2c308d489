"""The stream of a real router, over real HTTP."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextlib import closing as closed
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from router.ops.streams import STREAMS
from tests.support.serving import Serving, serving, target
from tests.support.sockets import free_port


@contextmanager
def router(folder: Path) -> Iterator[tuple[Serving, int]]:
    """A router with one target, and its ops port."""
    port = free_port()
    options = ("--ops-port", str(port))
    with target() as ledger, serving(folder, {"ledger": ledger}, options=options) as started:
        yield started, port


@contextmanager
def stream(port: int, query: str = "") -> Iterator[HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", f"/api/v1/stream{query}")
    answer = connection.getresponse()
    try:
        yield answer
    finally:
        answer.close()
        connection.close()


def next_of(answer: HTTPResponse, wanted: str) -> dict[str, Any]:
    """The data of the next server-sent event of that name."""
    while line := answer.readline():
        name = line.decode().removeprefix("event: ").strip()
        data = answer.readline().decode().removeprefix("data: ")
        answer.readline()
        if name == wanted:
            found: dict[str, Any] = json.loads(data)
            return found
    raise AssertionError("the stream has ended")


def test_events_come_as_they_are_handled(tmp_path: Path) -> None:
    """The minutes count them too."""
    with router(tmp_path) as (started, port), stream(port) as answer:
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        next_of(answer, "beat")
        assert started.post("first") == "000"
        said = next_of(answer, "event")
        assert (said["code"], said["targets"][0]["target"]) == ("000", "ledger")
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/api/v1/minutes")
        minutes = json.loads(connection.getresponse().read())
        connection.close()
        assert sum(minutes["events"]) == 1


def test_a_reader_that_goes_away_is_forgotten(tmp_path: Path) -> None:
    """As many streams can be opened again and again as may be open at a time."""
    with router(tmp_path) as (_, port):
        for _ in range(20):
            with stream(port) as answer:
                status = answer.status
                if status == 200:
                    next_of(answer, "beat")
        with stream(port) as answer:
            assert answer.status == 200


def test_who_asks_for_its_head_alone_takes_no_place(tmp_path: Path) -> None:
    """There is nothing to wait for."""
    with router(tmp_path) as (_, port), ExitStack() as closing:
        for _ in range(STREAMS):
            connection = closing.enter_context(
                closed(HTTPConnection("127.0.0.1", port, timeout=20))
            )
            connection.request("HEAD", "/api/v1/stream")
            answer = connection.getresponse()
            assert answer.getheader("content-type", "").startswith("text/event-stream")
        with stream(port) as opened:
            assert opened.status == 200


def test_a_stop_does_not_wait_for_streams(tmp_path: Path) -> None:
    """Its readers see the end of it, and the process ends."""
    with router(tmp_path) as (started, port), stream(port) as answer:
        next_of(answer, "beat")
        started.process.send_signal(signal.SIGTERM)
        while answer.readline():
            pass
        assert started.process.wait(20) == 0
