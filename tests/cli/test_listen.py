"""`listen`: a running router's events on one's own machine, as they are handled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.cli.listen import copy_of
from router.cli.send import Request
from router.transport.engine import lines_of
from tests.support.command import (
    Receiver,
    Running,
    answering,
    http_answer,
    one_line,
    receiver,
    run,
    running,
)
from tests.support.inprocess import ran
from tests.support.receivers import SECRET, Right
from tests.support.receivers import serving as serving_receiver
from tests.support.serving import Serving, serving, target
from tests.support.sockets import free_port

TOKEN, READER = "o" * 40, "r" * 40

TOKENS = f"""\
tokens:
  - {{name: ops, token: {TOKEN}, may: [read, bodies]}}
  - {{name: reader, token: {READER}, may: [read]}}
"""


@contextmanager
def router(folder: Path) -> Iterator[tuple[Serving, list[str]]]:
    """A router with tokens, and the options to reach it."""
    port = free_port()
    for name, text in (("tokens.yaml", TOKENS), ("token", TOKEN), ("reader", READER)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    options = ("--ops-port", str(port), "--ops-tokens", str(folder / "tokens.yaml"))
    asking = ["--url", f"http://127.0.0.1:{port}", "--token-file", str(folder / "token")]
    with target() as ledger, serving(folder, {"ledger": ledger}, options=options) as started:
        yield started, asking


@contextmanager
def mine() -> Iterator[Receiver]:
    with receiver("--format", "json") as started:
        yield started


def wait_until_it_listens(listening: Running) -> None:
    """Wait for the message; on a busy machine others may come first."""
    listening.wait_for(lambda: any(": listening;" in line for line in listening.stderr))


def test_a_copy_of_each_event_comes_and_is_marked(tmp_path: Path) -> None:
    """Copies are byte for byte, with an id of their own; `--limit` ends the command."""
    with router(tmp_path) as (started, asking), mine() as receiving:
        arguments = ("listen", *asking, "--forward-to", receiving.url, "--format", "json")
        with running(*arguments, "--limit", "1") as listening:
            wait_until_it_listens(listening)
            assert started.post("first") == "000"
            assert listening.wait() == 0
            event, copy = map(json.loads, listening.stdout)
        receiving.wait_for(lambda: receiving.stdout)
        got = json.loads(receiving.stdout[0])
    assert (event["code"], copy["code"]) == ("000", "000")
    assert got["headers"]["webhook-id"] == f"copy_{event['event_id']}"
    assert got["headers"]["x-ebaas-copy"] == "listen"
    assert got["body"] == event["body"]


def test_copies_are_signed_as_a_target_wants_them(tmp_path: Path) -> None:
    """`--sign` signs copies; a 401 is explained once."""
    wrong = "whsec_b2xkIHNlY3JldA=="
    with router(tmp_path) as (started, asking), serving_receiver(Right) as url:
        for secret, code in ((SECRET, "000"), (wrong, "401")):
            signing = ("--forward-to", url, "--sign", secret, "--limit", "2", "--format", "json")
            with running("listen", *asking, *signing) as listening:
                wait_until_it_listens(listening)
                for number in range(2):
                    assert started.post(f"{secret[-4:]}-{number}") == "000"
                assert listening.wait() == 0
            lines = map(json.loads, listening.stdout)
            assert [line["code"] for line in lines if line["kind"] == "copy"] == [code] * 2
            hints = [line for line in listening.stderr if "is it the receiver's secret" in line]
            assert len(hints) == (code == "401")


def test_bodies_need_a_token_that_may(tmp_path: Path) -> None:
    """A token without `bodies` can only watch; for copies the message says why not."""
    with router(tmp_path) as (started, asking):
        asking[-1] = str(tmp_path / "reader")
        refused = run("listen", *asking, "--forward-to", "http://127.0.0.1:1/")
        assert refused.returncode == 3
        assert "needs bodies" in one_line(refused.stderr)
        with running("listen", *asking, "--no-forward", "--limit", "1") as listening:
            wait_until_it_listens(listening)
            assert started.post("first") == "000"
            assert listening.wait() == 0
            assert "1 fine" in listening.stdout[0]


def test_a_router_that_is_gone_is_looked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command reconnects, even if the connection ends before the first event."""
    beat = 'content-type: text/event-stream\r\n\r\nevent: beat\ndata: {"at": 1}\n\n'
    stream = f"HTTP/1.1 200 OK\r\nconnection: close\r\n{beat}".encode()
    answers = iter([stream, b"", b"", stream, http_answer('{"detail": "no"}', "403 No")])
    monkeypatch.setattr("router.cli.listen._RECONNECT", 0.01)
    with answering(lambda: next(answers)) as url:
        finished = ran("listen", "--url", url, "--no-forward")
    ended = "ebaas-router: the router has ended the stream; reconnecting"
    listening = "ebaas-router: listening; Ctrl-C ends it"
    assert finished.code == 3
    assert finished.err.splitlines() == ([listening, ended, listening, ended, "ebaas-router: no"])


def test_the_router_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--url` it is asked where `serve` with the same variables has its ops port."""
    with router(tmp_path) as (started, (_, url, *token)):
        monkeypatch.setenv("EBAAS_ROUTER_OPS_PORT", url.rpartition(":")[2])
        assert started.post("first") == "000"
        result = ran("trace", "--since", "1h", *token)
    assert (result.code, "first" in result.out, result.err) == (0, True, "")
    gone = ran("deliveries", "list", *token)
    assert gone.code == 3
    assert f"{url}: Connection refused" in gone.err


COPIES = Request("http://127.0.0.1:1/", {}, b"", 1.0)


@pytest.mark.parametrize("event_id", ["", "a\r\nx: y", "\ud800", "a b", "名"])
def test_a_hostile_id_cannot_add_a_header(event_id: str) -> None:
    """The copy gets another id, and the usual headers."""
    event = {"event_id": event_id, "event_key": "a.\ud800.b\r\n"}
    copy = copy_of(COPIES, event, '{"a": "\ud800"}', "listen")
    lines = lines_of([*copy.headers.items()])
    assert lines.count(b"\r\n") == len(copy.headers)
    assert copy.headers[b"webhook-id"].startswith(b"copy_")
    copy.body.decode()
