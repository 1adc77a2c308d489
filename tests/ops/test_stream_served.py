"""The live stream of a real router."""

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
    """Return the data of the next server-sent event of that name."""
    while line := answer.readline():
        name = line.decode().removeprefix("event: ").strip()
        data = answer.readline().decode().removeprefix("data: ")
        answer.readline()
        if name == wanted:
            found: dict[str, Any] = json.loads(data)
            return found
    raise AssertionError("the stream has ended")


def test_events_arrive_as_they_are_handled(tmp_path: Path) -> None:
    """As server-sent events."""
    with router(tmp_path) as (started, port), stream(port) as answer:
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        next_of(answer, "beat")
        assert started.post("first") == "000"
        event = next_of(answer, "event")
        assert (event["code"], event["targets"][0]["target"]) == ("000", "ledger")


def test_a_client_that_disconnects_frees_its_place(tmp_path: Path) -> None:
    """And a HEAD request takes none."""
    with router(tmp_path) as (_, port), ExitStack() as closing:
        for _ in range(STREAMS + 4):
            with stream(port) as answer:
                if answer.status == 200:
                    next_of(answer, "beat")
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
    """The streams end, and the process exits."""
    with router(tmp_path) as (started, port), stream(port) as answer:
        next_of(answer, "beat")
        started.process.send_signal(signal.SIGTERM)
        while answer.readline():
            pass
        assert started.process.wait(20) == 0
