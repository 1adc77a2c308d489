"""deploy/bridge/: what it sends is what each chat's vendor has published, see testdata/bridge/."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.command import PATIENCE, ROOT
from tests.support.receivers import Kept, keeping, serving
from tests.support.sockets import PLAIN, serving_in_a_thread

GOLDEN = ROOT / "tests/testdata/bridge"
BRIDGE = runpy.run_path(str(ROOT / "deploy/bridge/bridge.py"))

QUERIES = {"dingtalk": "?access_token=XXX", "wecom": "?key=XXX", "feishu": "", "slack": ""}

#: The answers of each chat to a message that it accepts, and to one that it refuses.
TAKEN = {
    "dingtalk": b'{"errcode":0,"errmsg":"ok"}',
    "wecom": b'{"errcode":0,"errmsg":"ok"}',
    "feishu": b'{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}',
    "slack": b"ok",
}
REFUSED = {
    "dingtalk": b'{"errcode":310000,"errmsg":"sign not match"}',
    "wecom": b'{"errcode":45009,"errmsg":"api freq out of limit"}',
    "feishu": b'{"code":19021,"data":{},"msg":"sign match fail"}',
    "slack": b"no_text",
}


def read(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def bridge() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BRIDGE["Bridge"])
    with serving_in_a_thread(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def post(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    reply = httpx.post(url, content=body, timeout=PATIENCE, **PLAIN)
    return reply.status_code, reply.json()


@pytest.mark.parametrize("name", QUERIES)
def test_each_chat_gets_what_its_vendor_has_published(name: str) -> None:
    """Address and body, byte for byte once they are parsed; signed where a chat signs."""
    text = BRIDGE["text_of"](read("event"))
    secret = "SECtest" if name in ("dingtalk", "feishu") else ""
    url, body = BRIDGE["message"](
        name, text, f"https://chat.example/{QUERIES[name]}", secret, 1599360473.0
    )
    assert {"query": urlsplit(url).query, "body": body} == read(name)


@pytest.mark.parametrize("name", QUERIES)
def test_what_a_chat_takes_is_acknowledged_and_nothing_else(
    name: str, bridge: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The router retries a message that a chat refuses; no secret is printed."""
    event = (GOLDEN / "event.json").read_bytes()
    got: list[Kept] = []
    url = f"{bridge}/{name}"

    def forwarded(to: str, body: bytes = event) -> tuple[int, dict[str, Any]]:
        monkeypatch.setenv(f"{name.upper()}_URL", to + QUERIES[name])
        return post(url, body)

    with serving(keeping(got, TAKEN[name])) as takes:
        assert forwarded(takes) == (200, {"code": "000", "msg": "ok"})
        assert "ledger" in got[0][2].decode()
        assert forwarded(takes, b"[]")[0] == 500
        moved = keeping(got, b"", 302, ("location", takes))
        with serving(keeping(got, REFUSED[name])) as refuses, serving(moved) as moves:
            assert forwarded(refuses)[0] == forwarded(moves)[0] == 500
    assert forwarded("http://127.0.0.1:9/") == (500, {"code": "500", "msg": "URLError"})
    output = capfd.readouterr()
    assert "XXX" not in output.out + output.err


def test_alertmanagers_alerts_are_told_as_well() -> None:
    """A message has the state of each alert, its owner and what to do."""
    expected = (GOLDEN / "alerts.txt").read_text(encoding="utf-8").rstrip("\n")
    assert BRIDGE["text_of"](read("alerts")) == expected


def test_what_is_long_is_cut() -> None:
    """A text is cut between characters, to the size that WeCom accepts."""
    event = read("event") | {"detail": {"problems": ["库存不足" * 1000]}}
    text = BRIDGE["text_of"](event)
    assert 1990 < len(text.encode()) <= 2048
    assert text.startswith("ebaas-router.target.failing.ledger\nproblems: 库存")


def test_a_chat_without_a_url_is_not_there(bridge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path cannot name another variable."""
    monkeypatch.setenv("OTHER_URL", "http://127.0.0.1:9/")
    monkeypatch.delenv("SLACK_URL", raising=False)
    for path in ("slack", "other", ""):
        assert post(f"{bridge}/{path}", b"{}")[0] == 404
