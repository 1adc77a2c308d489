"""`health` as a real process: one line, the right exit code, and always an end."""

from __future__ import annotations

import subprocess

import anyio.to_thread
import pytest

from tests.support.command import answering, http_answer, one_line, receiver, run
from tests.support.house import house, routes
from tests.support.inprocess import quick
from tests.support.sockets import free_port


@pytest.mark.anyio
async def test_a_running_router_is_ready() -> None:
    """A router that serves is `ready`, exit code 0."""
    async with house(routes({"one": "http://127.0.0.1:9/"})) as router:
        finished = await anyio.to_thread.run_sync(run, "health", "--url", router.url)
    assert (finished.returncode, one_line(finished.stdout)) == (0, "ready")


@pytest.mark.anyio
async def test_it_asks_where_serve_listens() -> None:
    """Without options it asks the address of the variables; every address means this machine."""
    async with house(routes({"one": "http://127.0.0.1:9/"})) as router:
        port = router.url.rpartition(":")[2]
        variables = {"EBAAS_ROUTER_HOST": "0.0.0.0", "EBAAS_ROUTER_PORT": port}
        finished = await anyio.to_thread.run_sync(lambda: run("health", environ=variables))
    assert (finished.returncode, one_line(finished.stdout)) == (0, "ready")


def test_what_is_not_ready_says_why() -> None:
    """Any status but 200 is `not ready`, with the contract's message, exit code 1."""
    answer = http_answer('{"code":"503","msg":"服务\\u001b繁忙"}', "503 Service Unavailable")
    with answering(answer) as url:
        finished = quick("health", "--url", url)
    assert finished.returncode == 1
    assert one_line(finished.stdout) == "not ready: HTTP 503 服务\\u001b繁忙"


@pytest.mark.parametrize("body", ["", "ok", "{}", '{"code":0,"msg":""}', '{"status":"UP"}'])
def test_another_server_is_not_the_router(body: str) -> None:
    """A 200 that is not the contract's reply is `not ready`, exit code 1: something else listens
    there."""
    with answering(http_answer(body, "200 OK")) as url:
        finished = quick("health", "--url", url)
    assert finished.returncode == 1
    assert one_line(finished.stdout) == f"not ready: what answers at {url} is not the router"


@pytest.mark.parametrize("body", ["", "[]", "{}", '"msg"', "[" * 5000, '{"msg":null}'])
def test_an_answer_of_any_other_shape_is_no_traceback(body: str) -> None:
    """Whatever is answered beside the status, the line has the status."""
    with answering(http_answer(body, "500 Oh")) as url:
        finished = quick("health", "--url", url)
    assert finished.returncode == 1
    assert one_line(finished.stdout).startswith("not ready: HTTP 500")
    assert finished.stderr == b""


def test_nobody_there() -> None:
    """An address where nobody listens is `not reachable`, exit code 1."""
    port = free_port()
    finished = quick("health", "--port", str(port))
    assert finished.returncode == 1
    assert one_line(finished.stdout) == (
        f"not reachable: http://127.0.0.1:{port}: Connection refused"
    )


def test_what_speaks_no_http() -> None:
    """An answer that is no HTTP is `not reachable`, exit code 1."""
    with answering(b"220 mail.example ESMTP\r\n") as url:
        finished = quick("health", "--url", url)
    assert finished.returncode == 1
    line = one_line(finished.stdout)
    assert line == f"not reachable: {url}: what answers there is no HTTP server"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
def test_an_answer_that_never_ends(answer: bytes) -> None:
    """`--timeout` holds for the whole question, also where an answer has begun."""
    with answering(answer, then="hold") as url:
        finished = quick("health", "--url", url, "--timeout", "300ms")
    assert finished.returncode == 1
    assert one_line(finished.stdout) == f"not reachable: no answer from {url} within 0.3 s"


def test_another_path() -> None:
    """A URL with a path of its own is asked as it is; receivers only take POSTs. What has
    no such path, like an ops port, is told from a router that is not ready."""
    with answering(http_answer("{}", "404 Not Found")) as url:
        line = one_line(quick("health", "--url", url).stdout)
    assert line == f"not ready: {url} has no /readyz (HTTP 404): it is for the callback port"
    with receiver() as target:
        finished = quick("health", "--url", target.url + "/status")
        target.wait_for(lambda: target.stdout)
        assert "GET /status" in target.stdout[0]
    assert finished.returncode == 1


def test_wrong_urls_and_variables_are_one_line() -> None:
    """What can't be asked at all is exit code 2."""
    wrong: list[tuple[subprocess.CompletedProcess[bytes], str]] = [
        (quick("health", "--url", "127.0.0.1:8080"), "--url: "),
        (run("health", environ={"EBAAS_ROUTER_PORT": "x"}), "EBAAS_ROUTER_PORT: "),
        (quick("health", "--timeout", "2"), "--timeout: "),
        (quick("health", "--url", "http://x:1", "--port", "1"), "--port can't be given with --url"),
        (quick("health", "--url", "http://x:1", "--tls-cert", "x"), "--tls-cert can't be given "),
        (quick("health", "--ca", "ca.pem"), "--ca is for a router that --url names"),
    ]
    for finished, start in wrong:
        assert finished.returncode == 2
        assert one_line(finished.stderr).startswith(f"ebaas-router: {start}")


def test_other_variables_are_not_its_concern() -> None:
    """A setting that `health` does not use can't make it fail or talk."""
    variables = {"EBAAS_ROUTER_MAX_REQUESTS": "x", "EBAAS_ROUTER_PROT": "1"}
    finished = run("health", "--port", str(free_port()), environ=variables)
    assert finished.returncode == 1
    assert finished.stderr == b""
