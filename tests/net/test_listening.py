"""Listening sockets, our own and inherited ones, and the limit of open files."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from router.model.errors import StartFailed
from router.net import listening
from router.net.listening import Callers, listen, share_out, take_inherited, url_of, waiting
from tests.support.command import PATIENCE, start_failure
from tests.support.serving import serving, target
from tests.support.sockets import HOST

ASKED = Callers(4096, 256)


@pytest.mark.parametrize("files", [256, 512, 1024, 4096])
@pytest.mark.parametrize("targets", [0, 64, 10_000])
def test_all_of_it_fits(files: int, targets: int) -> None:
    """Callers, refused ones and half of the targets' connections; the note has the numbers."""
    callers = share_out(files, ASKED, targets, store=16)
    left = files - callers.connections - callers.reserve - 16 - 128
    assert left >= min(targets, (files - 144) // 2)
    assert callers.connections >= 32
    assert callers.reserve > 0
    assert callers.note.startswith(f"callers have {callers.connections} connections and not 4096: ")
    assert f"allows {files} open files" in callers.note


def test_too_few_files_end_the_start() -> None:
    """The start fails with the number of files that it needs. With enough, nothing is reduced."""
    with pytest.raises(StartFailed, match=r"at least 208 open files are needed, .* allows 100"):
        share_out(100, ASKED, targets=64, store=16)
    assert share_out(208, ASKED, targets=64, store=16).connections >= 28
    assert share_out(65536, ASKED, targets=768, store=16) == ASKED


def test_a_port_is_shared_if_both_mean_it() -> None:
    """Otherwise the second start fails, and names the option."""
    for first, second in ((True, True), (True, False), (False, True)):
        with listen(HOST, 0, reuse_port=first) as one, ExitStack() as stack:
            port = one.getsockname()[1]
            if not (first and second):
                taken = "the port is taken; stop what uses it, or name another with --ops-port"
                stack.enter_context(pytest.raises(StartFailed, match=taken))
            listen(HOST, port, "--ops-port", reuse_port=second).close()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("192.0.2.1", "can't listen on 192.0.2.1:0: the address is not one of this machine's"),
        ("no..host", "can't listen on no..host: no such host or address"),
    ],
)
def test_a_port_that_cannot_be_opened_ends_the_start(host: str, why: str) -> None:
    """In one line."""
    with pytest.raises(StartFailed) as failed:
        listen(host, 0)
    assert str(failed.value) == why


def test_the_url_of_a_port() -> None:
    """An IPv6 address is in brackets."""
    with listen(HOST, 0) as four, listen("::1", 0) as six:
        assert url_of(four) == f"http://{HOST}:{four.getsockname()[1]}"
        assert url_of(six, tls=True) == f"https://[::1]:{six.getsockname()[1]}"


class Aborting(socket.socket):
    """A listening socket whose first caller has gone before it is accepted."""

    has_gone = False

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.has_gone:
            self.has_gone = True
            raise ConnectionAbortedError
        return super().accept()


def test_a_caller_that_has_gone_delays_no_other() -> None:
    """All callers that wait are accepted, whatever became of the first one."""
    with socket.create_server((HOST, 0)) as held, ExitStack() as stack:
        listener = stack.enter_context(Aborting(fileno=os.dup(held.fileno())))
        place = held.getsockname()
        callers = [stack.enter_context(socket.create_connection(place)) for _ in range(2)]
        accepted = [stack.enter_context(each) for each in waiting(listener)]
        assert {each.getpeername() for each in accepted} == {c.getsockname() for c in callers}


@pytest.mark.parametrize("name", ["", "callbacks", "any"])
def test_an_inherited_socket_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is for this process alone: child processes get neither the socket nor the variables."""
    with socket.create_server((HOST, 0)) as held:
        number = os.dup(held.fileno())
        os.set_inheritable(number, True)
        monkeypatch.setattr(listening, "_INHERITED", number)
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": name}
        listener = take_inherited(environ)
        assert listener is not None
        with listener:
            assert listener.getsockname() == held.getsockname()
            assert not os.get_inheritable(number)
    assert environ == {}


def test_sockets_for_another_process_are_ignored() -> None:
    """Sockets for the parent are not for this process."""
    environ = {"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a", "A": "b"}
    assert take_inherited(environ) is None
    assert environ == {"A": "b"}


def test_a_start_with_few_files_lowers_the_connections(tmp_path: Path) -> None:
    """Some of 300 silent callers get 503, none is reset, and the next event is delivered."""
    few = {"before": "ulimit -n 256"}
    with (
        target() as endpoint,
        serving(tmp_path, {"one": endpoint}, how=few) as router,
        ExitStack() as at,
    ):
        assert [line["problem"][:13] for line in router.lines("config")] == ["callers have "]
        place = (HOST, router.port)
        silent = [at.enter_context(socket.create_connection(place, PATIENCE)) for _ in range(300)]
        assert {caller.recv(64)[:13] for caller in silent} <= {b"", b"HTTP/1.1 503 "}
        assert router.post("event") == "000"
        assert len(endpoint.got) == 1


def test_a_start_with_too_few_files_says_so() -> None:
    """Exit code 3 and one line."""
    problem = start_failure(before="ulimit -n 100")
    assert "open files are needed, and the system allows 100" in problem
