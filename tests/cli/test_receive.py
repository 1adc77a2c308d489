"""`receive` as a real process: a business endpoint that answers to order and prints what comes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from router.contract.signing import Signer
from router.model.secret import Secret
from tests.support.command import (
    PATIENCE,
    ROOT,
    Receiver,
    command,
    environment,
    one_line,
    receiver,
    run,
)
from tests.support.house import SAMPLE
from tests.support.inprocess import quick
from tests.support.sockets import PLAIN

FAILED = "服务调用异常，请稍后再试或联系管理员"


@pytest.fixture(scope="module")
def usual() -> Iterator[Receiver]:
    """A receiver without options, one for all tests that look at its answers alone."""
    with receiver() as started:
        yield started


def post(
    url: str, body: bytes = SAMPLE, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    with httpx.Client(timeout=20, **PLAIN) as client:
        return client.post(url, content=body, headers=headers)


def codes(url: str, count: int) -> list[str]:
    return [post(url).json()["code"] for _ in range(count)]


def test_it_acknowledges(usual: Receiver) -> None:
    """A POST of JSON on any path gets the contract's success."""
    for path in ("/", "/callback", "/a/b?c=d"):
        reply = post(usual.url + path, headers={"x-request-id": "r-1"})
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "application/json"
        assert reply.json() == {"request_id": "r-1", "code": "000", "msg": "成功"}


def line_of(
    target: Receiver, path: str, body: bytes = SAMPLE, headers: Mapping[str, str] | None = None
) -> str:
    """The line printed for a request on a path of its own."""

    def lines() -> list[str]:
        return [line for line in target.stdout if f" POST {path} " in line]

    post(target.url + path, body, headers)
    target.wait_for(lines)
    (line,) = lines()
    return line


def test_it_prints_a_line_for_each_request(usual: Receiver) -> None:
    """A line has the time, the key, the size, the webhook-id and the answer."""
    time_, rest = line_of(usual, "/printed", headers={"webhook-id": "evt-7"}).split(maxsplit=1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time_)
    assert rest == (
        f"POST /printed  a.gs.cert.1  {len(SAMPLE)} bytes  webhook-id evt-7  -> 200 000"
    )


def test_a_routers_attempt_has_its_number_and_its_cause(usual: Receiver) -> None:
    headers = {
        "webhook-id": "evt-8",
        "x-ebaas-attempt": "3",
        "x-ebaas-cause": "recovery",
        "x-ebaas-first-at": "2026-11-26T09:00:00.000Z",
    }
    line = line_of(usual, "/numbered", headers=headers)
    when = "first at 2026-11-26T09:00:00.000Z"
    assert f"  webhook-id evt-8, attempt 3 (recovery, {when})  -> " in line


def test_it_derives_an_absent_key(usual: Receiver) -> None:
    """An event without a key is shown with the one that its fields make."""
    body = b'{"event_source":"b","event_topic":"c","event_type":"d","event_status":"2"}'
    assert "  b.c.d.2  " in line_of(usual, "/derived", body)


def test_json_lines_have_the_whole_request() -> None:
    """A line with `--format json` also has the headers and the body."""
    body = '{"event_key":"k","changes":["成功","\\n"]}'
    with receiver("--format", "json") as target:
        post(target.url + "/x", body.encode(), headers={"webhook-id": "evt-7", "x-more": "1"})
        target.wait_for(lambda: target.stdout)
        line = json.loads(target.stdout[0])
    assert line["body"] == body
    assert "成功" in target.stdout[0]
    assert line["headers"]["x-more"] == "1"
    del line["time"], line["body"], line["headers"]
    assert line == {
        "method": "POST",
        "path": "/x",
        "event_key": "k",
        "webhook_id": "evt-7",
        "bytes": len(body.encode()),
        "status": 200,
        "code": "000",
    }


def test_code_and_status_to_order() -> None:
    with receiver("--code", "E42", "--status", "409") as target:
        reply = post(target.url)
    assert (reply.status_code, reply.json()["code"]) == (409, "E42")


@pytest.mark.parametrize("status", ["204", "304"])
def test_a_status_without_a_body_has_none(status: str) -> None:
    """204 and 304 are answered as HTTP has it: with headers only."""
    with receiver("--status", status) as target:
        host, port = target.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(b"POST / HTTP/1.0\r\ncontent-length: 1\r\n\r\n1")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length" not in answer


def test_delay() -> None:
    """`--delay` passes before the answer, and after the request's line."""
    with receiver("--delay", "300ms") as target:
        started = time.monotonic()
        post(target.url)
        assert time.monotonic() - started >= 0.3


def test_fail_first() -> None:
    """`--fail-first` fails the first requests with code and status 500, and no later one."""
    with receiver("--fail-first", "2") as target:
        assert post(target.url).status_code == 500
        assert codes(target.url, 3) == ["500", "000", "000"]


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("GET", b"", 405), ("PUT", SAMPLE, 405), ("POST", b"", 400), ("POST", b"{", 400)],
)
def test_anything_else_is_refused(usual: Receiver, method: str, body: bytes, status: int) -> None:
    """Requests other than a POST of JSON are refused in the contract's JSON."""
    with httpx.Client(**PLAIN) as client:
        reply = client.request(method, usual.url, content=body)
    assert (reply.status_code, reply.json()["code"]) == (status, str(status))


def test_what_is_no_http_is_one_line(usual: Receiver) -> None:
    """The caller gets 400, and stderr has one line."""
    host, port = usual.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"BAD\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    usual.wait_for(lambda: len(usual.stderr) == 2)
    assert usual.stderr[1] == "ebaas-router: refused a request with HTTP 400"


def test_a_taken_port_is_one_line(usual: Receiver) -> None:
    """A port that is taken is one line and exit code 3."""
    port = usual.url.rpartition(":")[2]
    finished = run("receive", "--port", port)
    assert finished.returncode == 3
    assert f"127.0.0.1:{port}" in one_line(finished.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_the_normal_end(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it well, with a count of what was answered."""
    with receiver("--fail-first", "1") as target:
        codes(target.url, 3)
        assert target.interrupt(number) == 0
        assert target.stderr[-1] == "ebaas-router: requests received: 3; answered: 500 1, 000 2"
        assert len(target.stderr) == 2


def test_it_ends_with_its_reader() -> None:
    """Without a reader of its lines it stops, quietly."""
    ours, theirs = os.pipe()
    with subprocess.Popen(
        command("receive", "--port", "0"),
        stdout=theirs,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        opened = re.search(r"http://\S+:\d+", process.stderr.readline().decode())
        assert opened
        os.close(theirs)
        os.close(ours)
        post(opened.group())
        _, messages = process.communicate(timeout=PATIENCE)
    assert process.returncode == 141
    assert messages == b""


def signed(secret: str, body: bytes = SAMPLE) -> dict[str, str]:
    """The headers of a request that is signed now."""
    now = str(int(time.time()))
    signature = Signer([Secret(secret)]).sign(b"evt-7", now.encode(), body).decode()
    return {"webhook-id": "evt-7", "webhook-timestamp": now, "webhook-signature": signature}


def test_verify_tells_right_signatures_from_wrong_ones() -> None:
    """Either of two secrets is enough; any other request gets 401, and its line says why."""
    with receiver("--verify", "whsec_b2xkIHNlY3JldA==", "--verify", "the new secret") as target:
        for secret in ("whsec_b2xkIHNlY3JldA==", "the new secret", "another one"):
            post(target.url, headers=signed(secret))
        refused = post(target.url)
        target.wait_for(lambda: len(target.stdout) == 4)
    assert (refused.status_code, refused.json()["code"]) == (401, "401")
    assert [line.partition("  -> ")[2] for line in target.stdout] == [
        "200 000  signature valid",
        "200 000  signature valid",
        "401 401  not trusted: no signature is valid: another secret, or a changed body",
        "401 401  not trusted: there is no webhook-id",
    ]


def test_send_signs_as_the_router_does() -> None:
    """The request has all headers of a target; another secret is refused."""
    with receiver("--verify", "the new secret", "--format", "json") as target:
        event = ("send", target.url, "--key", "a b.c.证.1", "--sign")
        assert quick(*event, "the new secret").returncode == 0
        assert quick(*event, "the old secret").returncode == 1
        target.wait_for(lambda: len(target.stdout) == 2)
    results = json.loads(target.stdout[0])["headers"]
    assert {"webhook-id", "webhook-timestamp", "x-request-id"} <= results.keys()
    assert results["x-ebaas-event-key"] == "a%20b.c.%E8%AF%81.1"
    assert results["x-ebaas-target"] == "ebaas-router"


@pytest.mark.parametrize("body", ['{"x":"y"}', '{"event_source":"a"}', "[]", "a"])
def test_what_is_no_event_is_signed_without_a_key(tmp_path: Path, body: str) -> None:
    """The router makes none of a half of the fields either."""
    event = tmp_path / "event.json"
    event.write_text(body)
    with receiver("--format", "json") as target:
        quick("send", str(event), target.url, "--sign", "a secret of the ledger")
        target.wait_for(lambda: target.stdout)
    assert "x-ebaas-event-key" not in json.loads(target.stdout[0])["headers"]
