"""`status` and `health`."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio.to_thread
import pytest

from router.cli.printing import width
from tests.support.command import Finished, answering, http_answer, one_line, run
from tests.support.house import house, routes
from tests.support.inprocess import quick
from tests.support.serving import Code, serving, target
from tests.support.sockets import free_port

NARROW = {"COLUMNS": "80"}


def status(*arguments: str) -> Finished:
    with patch.dict(os.environ, NARROW):
        return quick("status", *arguments)


def lines_of(finished: Finished) -> list[str]:
    return finished.stdout.decode().splitlines()


def ops(*more: str) -> tuple[str, list[str]]:
    """Return a free ops port's address, and the options of a `serve` that listens there."""
    port = free_port()
    return f"http://127.0.0.1:{port}", ["--ops-port", str(port), *more]


def refuses(*_: Any) -> str:
    return "500"


def one(**fields: Any) -> dict[str, Any]:
    """Return a target that does well, but for these fields."""
    return {
        "state": "healthy",
        "severity": None,
        "in_flight": 0.0,
        "limit": 32.0,
        "unsettled": {"awaiting": 0.0, "queued": 0.0, "dead": 0.0},
        **fields,
    }


def failing(since: str, **fields: Any) -> dict[str, Any]:
    failure = {"reason": "status", "status": 503, "detail": "", "at": since}
    about = {"state": "failing", "severity": "critical", "failing_since": since}
    return one(last_failure=failure, **{**about, **fields})


def output(targets: Any, reasons: tuple[str, ...] = (), **more: Any) -> bytes:
    document = {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "at": "2026-11-25T14:00:00Z",
        "version": "1.2.3",
        "requests": {"in_flight": 3.0, "limit": 1024.0},
        "configuration": {"last_reload": {"problems": []}},
        "targets": {"each": targets},
        "shared": False,
        "nodes": [],
        **more,
    }
    return http_answer(json.dumps(document), "200 OK")


def test_a_running_router_in_a_table(tmp_path: Path) -> None:
    """Twelve targets of a real router fit a terminal; the one that fails comes first, with why."""
    url, options = ops()
    code: Code = refuses
    with target() as good, target(code) as bad:
        required = {f"team-{number}": good for number in range(11)} | {"zeal": bad}
        with serving(tmp_path, required, options=options) as router:
            assert router.post("event") == "500"
            router.wait_for(lambda: router.lines("event"))
            finished = run("status", "--url", url, environ=NARROW)  # as a process, once
    lines = lines_of(finished)
    assert finished.returncode == 1
    assert re.fullmatch(r"degraded: ebaas-router \S+, \d+ of 1,024 requests in flight", lines[0])
    # A loaded machine may be told of before the table.
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("target ")) + 1 :]
    assert table[0].split()[:2] == ["zeal", "failing"]
    assert "code" in table[0]
    assert table[1].split() == ["team-0", "healthy", "0/64", "0", "0"]
    assert len(table) == 12
    assert max(map(width, table)) <= 80


def test_all_is_well(tmp_path: Path) -> None:
    """A router with nothing to complain of is exit code 0; the token is read from its file."""
    token, tokens = tmp_path / "token", tmp_path / "tokens.yaml"
    token.write_text("a-token-of-the-ops-port\n")
    tokens.write_text("tokens: [{name: ops, token: a-token-of-the-ops-port, may: read}]")
    tokens.chmod(0o600)
    url, options = ops("--ops-tokens", str(tokens))
    with target() as good, serving(tmp_path, {"one": good}, options=options):
        finished = status("--url", url, "--token-file", str(token))
        without = status("--url", url)
        as_json = status("--url", url, "--token-file", str(token), "--format", "json")
    assert finished.returncode == 0
    assert lines_of(finished)[-1].split()[:2] == ["one", "idle"]
    assert json.loads(as_json.stdout)["targets"]["each"].keys() == {"one"}
    assert (without.returncode, without.stdout) == (1, b"")
    assert without.stderr.decode().endswith("; see --token-file\n")


def test_events_without_a_route_and_refused_callbacks_are_not_well(tmp_path: Path) -> None:
    """A real router that answers 500 to one key, and refuses other callbacks: both counts, and exit
    code 1; once its routes have the key, that trouble is over at once."""
    url, options = ops()
    with target() as good:
        started = serving(tmp_path, {"one": good}, options=options, match="elsewhere.*")
        with started as router:
            assert [router.post("one"), router.post("another")] == ["500", "500"]
            assert router.ask("POST", "/callback", b"{}")[1] == "400"
            before = status("--url", url)
            config = tmp_path / "routes.yaml"
            config.write_text(config.read_text().replace("elsewhere.*", "*"))
            router.process.send_signal(signal.SIGHUP)
            router.wait_for(lambda: router.lines("reload"))
            after = status("--url", url)
    text = " ".join(before.stdout.decode().split())
    assert before.returncode == 1
    assert "callbacks: 2 events matched no route since" in text
    assert "callbacks: 1 callback refused with 400 since" in text
    text = " ".join(after.stdout.decode().split())
    assert "no route" not in text
    assert "callbacks: 1 callback refused with 400 since" in text


def test_targets_are_in_the_order_of_the_router() -> None:
    """With how long each is failing or degraded, and the reason of those that need attention."""
    late = {"last_failure": {"reason": "timeout"}}
    targets = {
        "old": failing("2026-11-25T11:55:00Z", in_flight=7.0),
        "open": failing("2026-11-25T13:00:00Z", breaker={"open": 1.0}),
        "some": failing("2026-11-25T13:59:20Z", state="degraded", severity="warning"),
        "dead": one(severity="warning", unsettled={"dead": 1200.0}, **late),
        "held": one(state="paused", severity="notice"),
        "waits": one(unsettled={"queued": 4.0, "awaiting": 1.0, "dead": 0.0}, **late),
        "unused": one(state="idle"),
    }
    notice = {"check": "callbacks", "severity": "notice", "text": "1 request turned away"}
    hidden = {"check": "targets", "severity": "notice", "text": "held is paused"}
    more = {"counted_since": "2026-11-25T13:53:00Z", "causes": [notice, hidden]}
    with answering(output(targets, ("targets: old fails",), **more)) as url:
        lines = lines_of(status("--url", url))
    assert lines == [
        "degraded: ebaas-router 1.2.3, 3 of 1,024 requests in flight",
        "counted since 2026-11-25T13:53:00Z",
        "callbacks: 1 request turned away",
        "",
        "target  state                     in flight  waiting  dead   last failure",
        "old     failing 2h 5m             7/32       0        0      status (503)",
        "open    failing 1h, breaker open  0/32       0        0      status (503)",
        "some    degraded 40s              0/32       0        0      status (503)",
        "dead    healthy                   0/32       0        1,200  timeout",
        "held    paused                    0/32       0        0",
        "waits   healthy                   0/32       5        0",
        "unused  idle                      0/32       0        0",
    ]


def test_a_pause_has_its_reason() -> None:
    """The line has its remaining time, its reason and its author."""
    pause = {
        "since": "2026-11-25T13:59:00Z",
        "until": "2026-11-25T14:09:00Z",
        "because": "a move",
        "who": "ops",
    }
    target = failing("2026-11-25T13:00:00Z") | {"state": "paused", "pause": pause}
    with answering(output({"one": target})) as url:
        *_, line = lines_of(status("--url", url))
    assert "paused 9m more" in line
    assert line.endswith("paused by ops: a move")


def test_reasons_that_the_table_lacks_come_before_it() -> None:
    """Other checks, a target that is gone or does well, and the loader's faults of routes.yaml."""
    hidden = "targets: bad fails: dns"
    reasons = ("store: gone", "targets: gone has 2 dead letters", hidden, "targets: one has 1")
    problem = "config/routes.yaml:62:16: routes[0].optional: no target 'ledgr', did you mean it?"
    configuration = {"last_reload": {"problems": [problem]}}
    targets = {"one": one(), "bad": failing("2026-11-25T13:00:00Z")}
    with answering(output(targets, reasons, configuration=configuration)) as url:
        lines = lines_of(status("--url", url))
    text = " ".join(" ".join(lines[1 : lines.index("")]).split())
    assert text == f"store: gone targets: gone has 2 dead letters targets: one has 1 {problem}"


def test_long_and_wide_names_fit() -> None:
    """No name and no failure makes a line wider than the terminal, or reaches it as a command."""
    failure = {"reason": "code", "status": 200, "detail": "码\x1b[2J" * 60}
    targets = {"证" * 60: failing("2026-11-25T11:55:00Z") | {"last_failure": failure}}
    with answering(output(targets, ("store: gone",))) as url:
        lines = lines_of(status("--url", url))
    assert max(map(width, lines)) <= 80
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http_answer("[]", "200 OK"), "is of another version than this command"),
        (http_answer('{"code":"404"}', "404 No"), "is not a router's ops port (HTTP 404)"),
        (http_answer("[" * 5000, "200 OK"), "the response is not JSON: the server is not a router"),
        (http_answer('{"status":"ok"}', "200 OK"), "is of another version than this command"),
        (output({"one": {}}), "is of another version than this command"),
        (output({"one": failing("yesterday")}), "is of another version than this command"),
        (output({"one": one(in_flight=10**400)}), "is of another version than this command"),
        (output([1]), "is of another version than this command"),
        (b"220 mail.example ESMTP\r\n\r\n", "the server there does not speak HTTP"),
    ],
)
def test_a_wrong_answer_is_one_line(answer: bytes, why: str) -> None:
    """One line says what is wrong with the answer, and the exit code is 1."""
    with answering(answer) as url:
        finished = status("--url", url)
    (line,) = finished.stderr.decode().splitlines()
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert why in line


@pytest.mark.parametrize("begun", [b"", http_answer("x" * 99)[:-90], b"HTTP/1.1 200 OK\r\nx: "])
def test_an_answer_without_an_end(begun: bytes) -> None:
    """A router that sends a byte now and then has no more time than a silent one."""
    with answering(begun, "crumbs") as url:
        finished = status("--url", url, "--timeout", "300ms")
    assert finished.returncode == 1
    assert f"no answer from {url} within 0.3 s" in finished.stderr.decode()


def test_no_router(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --url it asks the ops port of the settings; where there is none it says so."""
    port = free_port()
    monkeypatch.setenv("EBAAS_ROUTER_OPS_PORT", str(port))
    finished = status()
    assert finished.returncode == 1
    assert finished.stderr.decode().endswith(f"http://127.0.0.1:{port}: Connection refused\n")
    monkeypatch.setenv("EBAAS_ROUTER_OPS_PORT", "0")
    off = status()
    assert (off.returncode, b"--url" in off.stderr) == (2, True)


# `health`.


def result(finished: Finished) -> tuple[int, str]:
    assert finished.stderr == b""
    return finished.returncode, one_line(finished.stdout)


def health(url: str, *more: str) -> tuple[int, str]:
    return result(quick("health", "--port", url.rpartition(":")[2], *more))


@pytest.mark.anyio
async def test_a_running_router_is_ready() -> None:
    """At the address of the variables; every address means this machine."""
    async with house(routes({"one": "http://127.0.0.1:9/"})) as router:
        port = router.url.rpartition(":")[2]
        variables = {"EBAAS_ROUTER_HOST": "0.0.0.0", "EBAAS_ROUTER_PORT": port}
        found = await anyio.to_thread.run_sync(lambda: run("health", environ=variables))
    assert result(found) == (0, "ready")


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
        assert health(url) == (1, line.replace("URL", url))


def test_an_unreachable_router() -> None:
    """Nobody listens, the answer is not HTTP, or it never ends."""
    port = free_port()
    line = f"not reachable: http://127.0.0.1:{port}: Connection refused"
    assert health(f":{port}") == (1, line)
    with answering(b"220 mail.example ESMTP\r\n") as url:
        line = f"not reachable: {url}: the server there does not speak HTTP"
        assert health(url) == (1, line)
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nx-more: "
    ends = [(b"", "hold"), (body, "hold"), (body, "crumbs"), (head, "crumbs")]
    for begun, then in ends:
        with answering(begun, then) as url:
            line = f"not reachable: no answer from {url} within 0.3 s"
            assert health(url, "--timeout", "300ms") == (1, line)


def test_only_its_own_variables_count() -> None:
    """The variable of another setting can't make it fail."""
    wrong = run("health", environ={"EBAAS_ROUTER_PORT": "x"})
    assert wrong.returncode == 2
    assert one_line(wrong.stderr).startswith("ebaas-router: EBAAS_ROUTER_PORT: ")
    variables = {"EBAAS_ROUTER_MAX_REQUESTS": "x", "EBAAS_ROUTER_PROT": "1"}
    finished = run("health", "--port", str(free_port()), environ=variables)
    assert (finished.returncode, finished.stderr) == (1, b"")
