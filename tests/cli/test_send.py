"""`send` as a real process: EBaaS played against receivers that obey and servers that do not."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.contract.schedule import PLATFORM
from router.model.event import FIELDS
from tests.support.command import (
    ROOT,
    Finished,
    Receiver,
    answering,
    command,
    environment,
    http_answer,
    one_line,
    receiver,
    run,
    running,
)
from tests.support.inprocess import quick
from tests.support.sockets import free_port


@pytest.fixture(scope="module")
def target() -> Iterator[Receiver]:
    """A receiver that acknowledges, one for all tests that need no other."""
    with receiver("--format", "json") as started:
        yield started


def sent(target: Receiver, *arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    """The request that the receiver got from a `send` with these arguments."""
    before = len(target.stdout)
    finished = quick("send", *arguments, "--url", target.url + "/callback", stdin=stdin)
    assert finished.returncode == 0, finished.stderr
    target.wait_for(lambda: len(target.stdout) > before)
    line: dict[str, Any] = json.loads(target.stdout[before])
    return line


def results(finished: Finished) -> list[dict[str, Any]]:
    """The lines of a run with `--format json`."""
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_it_prints_the_reply(target: Receiver) -> None:
    """A success is one line with code, msg, request_id and time, or one object; exit code 0."""
    arguments = ("send", target.url, "--header", "x-request-id: r-1")
    finished, machine = run(*arguments), quick(*arguments, "--format", "json")
    assert (finished.returncode, finished.stderr, machine.returncode) == (0, b"", 0)
    assert re.fullmatch(
        r"code 000, 成功, request_id r-1, HTTP 200, \d+\.\d ms", one_line(finished.stdout)
    )
    (line,) = results(machine)
    assert line.pop("ms") > 0
    shown = {"code": "000", "msg": "成功", "request_id": "r-1", "status": 200}
    assert line == {"request": 1, "of": 1, **shown, "reason": None, "detail": None}


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ((), ["a", "gs", "cert", "1", "a.gs.cert.1", ["id1", "id2"]]),
        (
            ("--key=b.t.证书.3", "--change=7", "--change=8"),
            ["b", "t", "证书", "3", "b.t.证书.3", ["7", "8"]],
        ),
    ],
)
def test_the_event(target: Receiver, options: tuple[str, ...], values: list[Any]) -> None:
    """Without options it is the platform page's sample; the key makes the other fields."""
    got = sent(target, *options)
    assert json.loads(got["body"]) == dict(zip([*FIELDS, "changes"], values, strict=True))
    assert got["headers"]["content-type"] == "application/json"


def test_a_file_is_sent_byte_for_byte(target: Receiver, tmp_path: Path) -> None:
    """FILE goes out as it is, whatever is in it; it and the URL may come in any order."""
    body = b' {"a": 1e400,\r\n "a":"\xe6\x88\x90"}\n'
    file = tmp_path / "event.json"
    file.write_bytes(body)

    def bodies() -> list[str]:
        lines = map(json.loads, target.stdout)
        return [line["body"] for line in lines if line["path"] == "/file"]

    url = f"{target.url}/file"
    for arguments in ((str(file), url), (url, "--timeout", "5s", str(file))):
        quick("send", *arguments)
    target.wait_for(lambda: len(bodies()) == 2)
    assert bodies() == [body.decode()] * 2


def test_a_header_s_variables_are_replaced(
    target: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A token need not be in the command line; content-type may be replaced."""
    monkeypatch.setenv("TOKEN", "hush-1")
    (tmp_path / "token").write_text("hush-2\n")
    headers = ["authorization: Bearer ${TOKEN}", "x-token: ${file:token}", "x-price: 5$$"]
    headers += ["X-Request-Id: r 7", "content-type:text/plain"]
    given = [word for header in headers for word in ("--header", header)]
    got = sent(target, *given, "--secrets-dir", str(tmp_path))["headers"]
    assert got["authorization"] == "Bearer hush-1"
    assert (got["x-token"], got["x-price"]) == ("hush-2", "5$")
    assert (got["x-request-id"], got["content-type"]) == ("r 7", "text/plain")


def test_a_value_that_would_write_headers_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the header's name alone."""
    monkeypatch.setenv("TOKEN", "hush\r\nx: y")
    finished = quick("send", "http://127.0.0.1:1/", "--header", "x-token: ${TOKEN}")
    assert finished.returncode == 2
    message = one_line(finished.stderr)
    assert message == "ebaas-router: --header: x-token has a control character in its value"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ((), "--sign SECRET, or --header 'authorization: Bearer ${NAME}'"),
        (("--sign", "whsec_b2xkIHNlY3JldA=="), "is it the receiver's secret or token"),
        (("--header", "authorization: Bearer x"), "is it the receiver's secret or token"),
    ],
)
def test_after_a_401_it_says_how_to_be_trusted(options: tuple[str, ...], hint: str) -> None:
    """The hint depends on the credentials that were given."""
    for status, code in (("401 Unauthorized", "7"), ("200 OK", "401")):
        with answering(http_answer(f'{{"code":"{code}"}}', status)) as url:
            finished = quick("send", url, *options)
        assert finished.returncode == 1
        assert hint in one_line(finished.stderr)


def test_without_a_url_it_goes_to_the_router_of_the_variables(
    target: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL has the host, the port and the secret path of `serve`; port 0 is an error."""
    port = target.url.rsplit(":", 1)[1].strip("/")
    monkeypatch.setenv("EBAAS_ROUTER_HOST", "0.0.0.0")
    monkeypatch.setenv("EBAAS_ROUTER_PORT", port)
    monkeypatch.setenv("EBAAS_ROUTER_PATH", "/in/7a1c")
    before = len(target.stdout)
    finished = quick("send")
    assert finished.returncode == 0, finished.stderr
    target.wait_for(lambda: len(target.stdout) > before)
    assert json.loads(target.stdout[before])["path"] == "/in/7a1c"
    monkeypatch.setenv("EBAAS_ROUTER_PORT", str(free_port()))
    assert b"7a1c" not in quick("send").stdout
    monkeypatch.setenv("EBAAS_ROUTER_PORT", "0")
    assert b"EBAAS_ROUTER_PORT: 0 is not a port to send to" in quick("send").stderr


def test_the_code_decides() -> None:
    """EBaaS reads the code: 000 is a success beside any HTTP status."""
    with answering(http_answer('{"code":"000"}', "500 Internal Server Error")) as url:
        assert quick("send", url).returncode == 0


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (b"", "reset", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "reset", ""),
        (b"220 mail.example ESMTP\r\n\r\n", "protocol", ""),
        (http_answer("<html>", "502 Bad Gateway"), "not_json", "not JSON"),
        (http_answer('["000"]'), "not_json", "not a JSON object"),
        (http_answer("[" * 60000), "not_json", "nested more than 8 deep"),
        (http_answer('{"code":0}'), "code", "no code that is a string"),
        (http_answer('{"code":500}'), "code", "no code that is a string"),
        (http_answer('{"code":""}'), "code", "no code that is a string"),
        (http_answer('{"msg":"000"}'), "code", "no code that is a string"),
        (http_answer('{"code":"1","code":"000"}'), "not_json", "twice"),
        (http_answer('{"code":"000"}' + " " * 70000), "too_large", ""),
    ],
)
def test_no_contract_reply_is_bad(answer: bytes, reason: str, detail: str) -> None:
    """Any other answer is shown with its reason; exit code 1."""
    with answering(answer) as url:
        finished = quick("send", url, "--format", "json")
    assert (finished.returncode, finished.stderr) == (1, b"")
    (line,) = results(finished)
    assert (line["code"], line["reason"]) == (None, reason)
    assert detail in (line["detail"] or "")


def test_nobody_there() -> None:
    """An address where nobody listens is one line, exit code 1; the path may be a secret."""
    url = f"http://127.0.0.1:{free_port()}"
    finished = quick("send", f"{url}/hush")
    assert finished.returncode == 1
    line = one_line(finished.stdout)
    assert line.startswith(f"no contract reply: connect_refused, Connection refused, {url}, ")


def test_a_reply_can_not_write_on_the_terminal() -> None:
    """The texts of a reply are escaped and cut, so that it stays one line."""
    reply = {"code": "\x1b[2J", "msg": "a\nb\r\u202e" + "x" * 9999, "request_id": "\x00"}
    with answering(http_answer(json.dumps(reply))) as url:
        finished = quick("send", url)
    line = one_line(finished.stdout)
    assert line.isprintable()
    assert line.startswith("code \\u001b[2J, a\\nb\\r\\u202exxx")
    assert len(line) < 400


def test_the_timeout_ends_a_request() -> None:
    """`--timeout` is the longest that a request takes, also where an answer has begun."""
    with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", then="hold") as url:
        started = time.monotonic()
        finished = quick("send", url, "--timeout", "2s", "--format", "json")
        assert time.monotonic() - started < 30
    assert results(finished)[0]["reason"] == "timeout"


def test_retry_goes_on_until_it_succeeds() -> None:
    """A failure is repeated after the waits until a 000; each request is announced."""
    codes = iter(("500", "500", "000"))
    with answering(lambda: http_answer(f'{{"code":"{next(codes)}"}}')) as url:
        finished = quick("send", url, "--waits", "10ms,20ms")
    assert finished.returncode == 0
    first, second, third = finished.stdout.decode().splitlines()
    assert first.startswith("request 1 of 21: code 500, ")
    assert second.startswith("request 2 of 21: code 500, ")
    assert third.startswith("request 3 of 21: code 000, ")
    assert finished.stderr.decode().splitlines() == [
        "ebaas-router: request 2 of 21, in 0.01 s",
        "ebaas-router: request 3 of 21, in 0.02 s",
    ]


def test_retry_gives_up_after_its_retries() -> None:
    """The exit code is 1 after the last retry; the last wait repeats."""
    with answering(http_answer('{"code":"500"}')) as url:
        finished = quick("send", url, "--waits", "1ms", "--format", "json")
    assert finished.returncode == 1
    assert [(line["request"], line["of"]) for line in results(finished)] == [
        (number, 21) for number in range(1, 22)
    ]


def test_without_waits_a_retry_keeps_to_the_platform_s() -> None:
    """`--retry` alone waits as EBaaS does; Ctrl-C ends it with what is known, exit code 130."""
    with receiver("--code", "500") as target, running("send", target.url, "--retry") as sending:
        sending.wait_for(lambda: sending.stderr)
        assert sending.stderr == ["ebaas-router: request 2 of 21, in 1 s"]
        assert PLATFORM.waits[0] == 1
        assert sending.interrupt() == 130
    assert sending.stderr[1:] == ["ebaas-router: interrupted after 1 of 21 requests"]
    assert sending.stdout[0].startswith("request 1 of 21: code 500")


def test_an_argument_that_is_not_utf_8_goes_out_as_it_is() -> None:
    """Bytes that are not UTF-8 reach the receiver, which has to refuse them."""
    with receiver("--format", "json") as target:
        finished = subprocess.run(
            [*command("send", target.url, "--change"), b"\xff"],
            capture_output=True,
            cwd=ROOT,
            env=environment(),
            check=False,
        )
        target.wait_for(lambda: target.stdout)
        assert json.loads(target.stdout[0])["status"] == 400
    assert one_line(finished.stdout).startswith("code 400, ")
