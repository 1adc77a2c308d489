"""The router behind TLS of its own: the same replies and the same limits, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from router.net.http.connection import Limits
from router.net.tls import Pair, listener_tls
from tests.support.certificates import issued, trusting
from tests.support.command import one_line, start_failure
from tests.support.inprocess import quick
from tests.support.serving import serving, target
from tests.support.waiting import wait_until
from tests.support.wire import PROBE, Running, answer_on, post, running

#: Deadlines that a test can sit out.
SOON = Limits(first_byte=1.5, receive=1.5, keep_alive=1.5, reply=5, linger=0.25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    issued(made)
    return made


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    return Pair(folder / "cert.pem", folder / "cert.key")


@contextmanager
def secured(pair: Pair, limits: Limits = Limits(), **options: Any) -> Iterator[Running]:  # noqa: B008 - frozen
    with running(limits, tls=listener_tls(pair).context, **options) as router:
        yield router
    assert router.troubles == []


def test_callbacks(folder: Path, pair: Pair) -> None:
    """A connection serves several requests."""
    with secured(pair) as router, router.line(tls=trusting(folder)) as line:
        for _ in range(3):
            line.say(post())
            answer = answer_on(line)
            assert answer.says["code"] == "000"
            assert not answer.ends
    assert len(router.events) == 3


def test_deadlines_hold(folder: Path, pair: Pair) -> None:
    """A handshake has as much time as a request, and after it a silent or slow caller is cut like
    any other. A TLS port never answers in plain text."""
    trust = trusting(folder)
    with secured(pair, SOON) as router, router.line() as silent, router.line() as slow:
        slow.say(b"\x16\x03\x01")
        with router.line(tls=trust) as idle, router.line(tls=trust) as cut:
            cut.say(b"POST /callback HTTP/1.1\r\nHost: x\r\n")
            with router.line() as plain, router.line(tls=trust) as honest:
                plain.say(PROBE)
                assert plain.receive() is None
                honest.say(post())
                answer_on(honest)
            assert idle.receive() is silent.receive() is slow.receive() is None
            assert [answer.says["code"] for answer in cut.receive_all()] == ["408"]
        wait_until(lambda: router.server.tally.refused["tls"] == 3)


def test_handshakes_are_bounded(folder: Path, pair: Pair) -> None:
    """Handshakes count as connections."""
    limits = Limits(connections=2, reserve=1, first_byte=60, receive=60, linger=0.25)
    with secured(pair, limits) as router:
        held = [router.line() for _ in range(3)]
        wait_until(lambda: len(router.server.tally.tasks) == 3)
        with router.line() as another:
            assert another.receive() is None
        assert router.server.tally.refused["503"] == 1
        assert held[2].receive() is None
        for line in held:
            line.socket.close()
        wait_until(lambda: not router.server.tally.tasks)
        with router.line(tls=trusting(folder)) as honest:
            honest.say(post())
            answer_on(honest)


def test_a_stop_loses_no_reply(folder: Path, pair: Pair) -> None:
    """Requests in flight are finished; silent connections do not delay the stop."""
    with secured(pair, SOON, delay=0.5) as router, router.line() as silent:
        with router.line(tls=trusting(folder)) as line:
            line.say(post())
            wait_until(lambda: router.events != [])
            router.stop()
            answer = answer_on(line)
        assert (answer.says["code"], answer.ends) == ("000", True)
        assert silent.receive() is None


def options(pair: Pair) -> tuple[str, ...]:
    return ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))


def test_commands_connect_to_it(
    tmp_path: Path, folder: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`health` and `send` do, with options or variables; without trust, `send` says why."""
    with target() as one, serving(tmp_path, {"one": one}, options=options(pair)) as router:
        url = f"https://127.0.0.1:{router.port}"
        assert router.lines("serving")[0]["url"] == f"{url}/callback"
        own = quick("health", "--port", str(router.port), "--tls-cert", str(pair.cert))
        assert (own.returncode, own.stdout) == (0, b"ready\n")
        ca = ("--ca", str(folder / "cert.ca"))
        assert "000" in one_line(quick("send", "--url", f"{url}/callback", *ca).stdout)
        assert "tls" in one_line(quick("send", "--url", f"{url}/callback").stdout)
        monkeypatch.setenv("EBAAS_ROUTER_PORT", str(router.port))
        monkeypatch.setenv("EBAAS_ROUTER_TLS_CERT", str(pair.cert))
        assert "000" in one_line(quick("send").stdout)


def test_a_certificate_that_can_not_be_used(tmp_path: Path) -> None:
    """The start ends with one line and exit code 3."""
    expired = issued(tmp_path, "old", days=-0.5)
    assert "old.pem has expired on 20" in start_failure(*options(expired))


@pytest.mark.parametrize(
    ("content", "why"), [(None, "can't be read"), ("no PEM", "has no certificate in PEM in it")]
)
def test_an_authority_that_can_not_be_used(tmp_path: Path, content: str | None, why: str) -> None:
    """A `--ca` without a certificate is exit code 2, with one line."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    done = quick("send", "--url", "https://127.0.0.1:1/", "--ca", str(path))
    assert done.returncode == 2
    assert why in one_line(done.stderr)
    assert str(path) in one_line(done.stderr)
