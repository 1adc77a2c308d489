"""`serve` stops without leaving a request without a reply. Real processes and signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import PATIENCE
from tests.support.serving import Gate, Serving, gated, serving, target
from tests.support.sockets import listens
from tests.support.waiting import wait_until
from tests.support.wire import PROBE, Line, answer_on, post

#: Timeouts that outlast the test.
PATIENT: dict[str, Any] = {"defaults": {"timeout": "60s"}, "ebaas": {"reply_within": "60s"}}


@contextmanager
def holding(folder: Path, *options: str) -> Iterator[tuple[Serving, Gate, Line]]:
    """Run a router whose only target does not answer yet, and connect to it."""
    with (
        gated() as (endpoint, gate),
        serving(folder, {"gate": endpoint}, options=options, **PATIENT) as router,
        Line(router.port) as line,
    ):
        try:
            yield router, gate, line
        finally:
            gate.open()


def troubles(router: Serving) -> list[str]:
    """Return the lines of stderr, and the log lines of libraries."""
    return [*router.stderr, *(line for line in router.stdout if "library" in line)]


#: Longer than any test.
NEVER = "10m"


@contextmanager
def plain(folder: Path, *options: str) -> Iterator[Serving]:
    with (
        target() as endpoint,
        serving(folder, {"one": endpoint}, options=options, **PATIENT) as router,
    ):
        yield router


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_during_the_delay_it_is_not_ready_and_still_serves(
    tmp_path: Path, number: signal.Signals
) -> None:
    """`/readyz` is 503; callbacks are served, and every reply ends its connection."""
    with plain(tmp_path, "--drain-delay", NEVER) as router, Line(router.port) as kept:
        kept.say(PROBE)
        assert not answer_on(kept).ends
        assert router.ready() == 200
        router.process.send_signal(number)
        wait_until(lambda: router.ready() == 503)
        assert router.post("fresh") == "000"
        kept.say(post())
        answer = answer_on(kept)
        assert answer.status == 200
        assert answer.ends
        assert router.interrupt(number) == 0  # hurries
        assert troubles(router) == []


def test_a_connection_that_waits_to_be_accepted_is_served(tmp_path: Path) -> None:
    """The process had not accepted it yet when the signal came."""
    with plain(tmp_path) as router, ExitStack() as stack:
        router.process.send_signal(signal.SIGSTOP)
        lines = [stack.enter_context(Line(router.port)) for _ in range(20)]
        router.process.send_signal(signal.SIGTERM)
        for line in lines:
            line.say(post())
        router.process.send_signal(signal.SIGCONT)
        assert [answer_on(line).status for line in lines] == [200] * 20
        assert router.wait() == 0


def test_connections_made_during_a_stop_are_served(tmp_path: Path) -> None:
    """Callers that connect all the time are served or refused, and none is reset."""
    with plain(tmp_path) as router:
        outcomes: list[str] = []
        callers = [
            threading.Thread(target=connect_and_ask, args=(router, outcomes)) for _ in range(16)
        ]
        for caller in callers:
            caller.start()
        wait_until(lambda: outcomes.count("200") > 200)
        router.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join(PATIENCE)
        assert router.wait() == 0
        assert set(outcomes) == {"200", "refused"}
        assert outcomes.count("refused") == 16


def connect_and_ask(router: Serving, outcomes: list[str]) -> None:
    while True:
        try:
            line = Line(router.port)
        except ConnectionRefusedError:
            break
        with line:
            try:
                line.say(PROBE)
                answer = line.receive()
                outcomes.append(str(answer.status) if answer else "closed")
            except OSError as error:
                outcomes.append(type(error).__name__)
    outcomes.append("refused")


def test_a_request_on_an_idle_connection_is_answered(tmp_path: Path) -> None:
    """It was sent when the signal came; an idle connection is just closed."""
    with (
        holding(tmp_path) as (router, gate, used),
        Line(router.port) as idle,
    ):
        for line in (used, idle):
            line.say(PROBE)
            assert not answer_on(line).ends
        router.process.send_signal(signal.SIGSTOP)
        router.process.send_signal(signal.SIGTERM)
        used.say(post())
        router.process.send_signal(signal.SIGCONT)
        # Which of both it sees first is the system's choice.
        wait_until(lambda: not listens(router.port))
        gate.open()
        assert answer_on(used).ends
        assert idle.receive() is None
        assert router.wait() == 0


def test_a_request_in_flight_is_finished(tmp_path: Path) -> None:
    """A request whose target is slow gets its 000 after the socket has closed."""
    with holding(tmp_path) as (router, gate, line):
        line.say(post())
        wait_until(lambda: gate.come)
        router.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(router.port))
        gate.open()
        answer = answer_on(line)
        assert answer.says["code"] == "000"
        assert answer.ends
        assert router.wait() == 0
        assert troubles(router) == []


def test_an_unfinished_request_gets_a_reply(tmp_path: Path) -> None:
    """A second signal resets no connection, and no task or traceback is logged."""
    with holding(tmp_path) as (router, gate, line), Line(router.port) as slow:
        slow.say(post()[:-1])
        line.say(post())
        wait_until(lambda: gate.come)
        for _ in range(2):
            router.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not listens(router.port))
        assert answer_on(slow).says["code"] == "503"
        answer = answer_on(line)
        assert answer.says["code"] in ("500", "503")
        assert answer.ends
        assert router.wait() == 0
        assert troubles(router) == []
