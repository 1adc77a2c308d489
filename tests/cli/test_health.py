"""`health`: one line, the right exit code, and always an end."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.certificates import issued
from tests.support.command import Finished, answering, http_answer, one_line, receiver, run
from tests.support.house import house, routes
from tests.support.inprocess import quick
from tests.support.sockets import free_port


def result(finished: Finished) -> tuple[int, str]:
    assert finished.stderr == b""
    return finished.returncode, one_line(finished.stdout)


@pytest.mark.anyio
async def test_a_running_router_is_ready() -> None:
    """By --url, or at the address of the variables; every address means this machine."""
    async with house(routes({"one": "http://127.0.0.1:9/"})) as router:
        port = router.url.rpartition(":")[2]
        variables = {"EBAAS_ROUTER_HOST": "0.0.0.0", "EBAAS_ROUTER_PORT": port}
        named = await anyio.to_thread.run_sync(run, "health", "--url", router.url)
        found = await anyio.to_thread.run_sync(lambda: run("health", environ=variables))
    assert result(named) == result(found) == (0, "ready")


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        (
            "503 Service Unavailable",
            '{"code":"503","msg":"服务\\u001b繁忙"}',
            "not ready: HTTP 503 服务\\u001b繁忙",
        ),
        ("500 Oh", "[" * 5000, "not ready: HTTP 500"),
        ("500 Oh", '{"msg":null}', "not ready: HTTP 500"),
        (
            "404 Not Found",
            "{}",
            "not ready: URL has no /readyz (HTTP 404): it is for the callback port",
        ),
        *(
            ("200 OK", body, "not ready: the server at URL is not the router")
            for body in ("", "ok", "{}", '{"code":0,"msg":""}', '{"status":"UP"}')
        ),
    ],
)
def test_another_answer_is_not_ready(status: str, body: str, line: str) -> None:
    """Also a 200 that is not the contract's reply: something else listens there."""
    with answering(http_answer(body, status)) as url:
        assert result(quick("health", "--url", url)) == (1, line.replace("URL", url))


def test_an_unreachable_router() -> None:
    """Nobody listens, the answer is not HTTP, or it never ends."""
    port = free_port()
    line = f"not reachable: http://127.0.0.1:{port}: Connection refused"
    assert result(quick("health", "--port", str(port))) == (1, line)
    with answering(b"220 mail.example ESMTP\r\n") as url:
        line = f"not reachable: {url}: the server there does not speak HTTP"
        assert result(quick("health", "--url", url)) == (1, line)
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nx-more: "
    ends = [(b"", "hold"), (body, "hold"), (body, "crumbs"), (head, "crumbs")]
    for begun, then in ends:
        with answering(begun, then) as url:
            line = f"not reachable: no answer from {url} within 0.3 s"
            assert result(quick("health", "--url", url, "--timeout", "300ms")) == (1, line)


def test_a_url_with_a_path_is_asked_as_it_is() -> None:
    with receiver() as target:
        finished = quick("health", "--url", target.url + "/status")
        target.wait_for(lambda: target.stdout)
        assert "GET /status" in target.stdout[0]
    assert finished.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (("--url", "127.0.0.1:8080"), "--url: "),
        (("--timeout", "2"), "--timeout: "),
        (("--url", "http://x:1", "--port", "1"), "--port can't be given with --url"),
        (("--url", "http://x:1", "--tls-cert", "x"), "--tls-cert can't be given "),
        (("--ca", "ca.pem"), "--ca is for a router that --url names"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], start: str
) -> None:
    monkeypatch.chdir(tmp_path)
    issued(tmp_path, "ca")
    finished = quick("health", *arguments)
    assert finished.returncode == 2
    assert one_line(finished.stderr).startswith(f"ebaas-router: {start}")


def test_only_its_own_variables_count() -> None:
    """The variable of another setting can't make it fail."""
    wrong = run("health", environ={"EBAAS_ROUTER_PORT": "x"})
    assert wrong.returncode == 2
    assert one_line(wrong.stderr).startswith("ebaas-router: EBAAS_ROUTER_PORT: ")
    variables = {"EBAAS_ROUTER_MAX_REQUESTS": "x", "EBAAS_ROUTER_PROT": "1"}
    finished = run("health", "--port", str(free_port()), environ=variables)
    assert (finished.returncode, finished.stderr) == (1, b"")
