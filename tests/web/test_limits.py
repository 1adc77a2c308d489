"""The limits on the callback port: a real process, and small ones where they are options."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Serving, serving, target
from tests.support.wire import PROBE, Line, post

OPTIONS = (
    *("--max-body", "2KiB", "--max-connections", "4"),
    *("--receive-timeout", "500ms", "--keep-alive", "800ms"),
)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with (
        target() as one,
        serving(tmp_path_factory.mktemp("router"), {"one": one}, options=OPTIONS) as router,
    ):
        yield router


def statuses(router: Serving, *packets: bytes) -> list[int]:
    """The statuses of all answers on a new connection."""
    with Line(router.port) as line:
        line.say(*packets)
        return [answer.status for answer in line.hear_all()]


def test_max_body(router: Serving) -> None:
    """A body beyond `--max-body` gets 413."""
    assert statuses(router, post(body=b" " * 2049)) == [413]


def test_receive_timeout_of_a_request(router: Serving) -> None:
    """A request that is not whole after `--receive-timeout` gets 408."""
    assert statuses(router, post()[:-1]) == [408]


def test_a_request_that_takes_too_long_to_arrive_reaches_nobody(tmp_path: Path) -> None:
    """A request that is complete after `reply_within` gets 408, and reaches no target."""
    options = ("--receive-timeout", "10s")
    ebaas = {"reply_within": "300ms"}
    with (
        target() as one,
        serving(tmp_path, {"one": one}, options=options, ebaas=ebaas) as router,
        Line(router.port) as line,
    ):
        whole = post()
        line.say(whole[:-1])
        time.sleep(0.6)
        line.say(whole[-1:])
        answer = line.hear()
        assert answer is not None
        assert answer.status == 408
        assert one.got == []


def test_keep_alive(router: Serving) -> None:
    """A connection that is idle for `--keep-alive` is closed; until then it serves."""
    with Line(router.port) as line:
        for _ in range(2):
            line.say(PROBE)
            answer = line.hear()
            assert answer is not None
            assert not answer.ends
        assert line.hear() is None


def test_a_request_that_has_come_is_answered_though_keep_alive_is_over(router: Serving) -> None:
    """A process that was held up looks at what has come before it closes what seems idle."""
    with Line(router.port) as line:
        line.say(PROBE)
        assert line.hear()
        router.process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)  # longer than --keep-alive
        line.say(post())
        router.process.send_signal(signal.SIGCONT)
        answer = line.hear()
        assert answer is not None
        assert answer.status == 200


def test_max_connections(router: Serving) -> None:
    """A callback beyond `--max-connections` gets 503, a probe its answer."""
    lines = [Line(router.port) for _ in range(4)]
    for line in lines:
        line.say(PROBE)
        assert line.hear()
    assert statuses(router, post()) == [503]
    assert statuses(router, PROBE) == [200]
    for line in lines:
        line.socket.close()
