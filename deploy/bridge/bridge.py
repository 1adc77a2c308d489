"""A receiver that says in a chat what it gets: the router's own events, and Alertmanager's alerts.

    WECOM_URL='https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=…' python3 bridge.py

It answers at /dingtalk, /wecom, /feishu and /slack of BRIDGE_PORT (9097) on this machine. For each
that is used there is the robot's URL, DINGTALK_URL and so on; DINGTALK_SECRET and FEISHU_SECRET are
for robots that want signatures. It acknowledges what the chat has taken; the router tries the rest
again.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote_plus
from urllib.request import HTTPRedirectHandler, Request, build_opener

#: WeCom takes 2,048 bytes of text, the others more.
MOST = 2000


def text_of(body: dict[str, Any]) -> str:
    """An event of the router's, or a group of alerts, as lines."""
    text = "\n".join(_alerts(body["alerts"]) if "alerts" in body else _event(body))
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= MOST else encoded[:MOST].decode(errors="ignore") + "…"


def _event(body: dict[str, Any]) -> Iterator[str]:
    yield body["event_key"]
    for name, value in body.get("detail", {}).items():
        yield f"{name}: {'; '.join(map(str, value)) if isinstance(value, list) else value}"


def _alerts(alerts: list[dict[str, Any]]) -> Iterator[str]:
    for alert in alerts:
        labels, notes = alert["labels"], alert["annotations"]
        owner = f" ({labels['owner']})" if labels.get("owner") else ""
        yield f"{alert['status']} {labels['alertname']}{owner}"
        yield from (notes[name] for name in ("summary", "runbook") if notes.get(name))


def message(chat: str, text: str, url: str, secret: str, now: float) -> tuple[str, dict[str, Any]]:
    """Return the URL to POST to, and the body."""
    if chat == "slack":
        return url, {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    if chat != "feishu":
        if secret:
            stamp = f"{now * 1000:.0f}"
            sign = _signed(secret, f"{stamp}\n{secret}")
            url += f"&timestamp={stamp}&sign={quote_plus(sign)}"
        return url, {"msgtype": "text", "text": {"content": text}}
    stamp = f"{now:.0f}"
    signed = {"timestamp": stamp, "sign": _signed(f"{stamp}\n{secret}", "")} if secret else {}
    return url, {**signed, "msg_type": "text", "content": {"text": text}}


def _signed(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), "sha256")).decode()


def is_taken(chat: str, answer: bytes) -> bool:
    """All but Slack answer 200 to what they refuse."""
    return answer == b"ok" if chat == "slack" else 0 in _codes(json.loads(answer))


def _codes(answer: dict[str, Any]) -> list[Any]:
    return [answer.get(name) for name in ("errcode", "code")]


class NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None is followed: a message is for its chat alone."""


class Bridge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        chat = self.path.strip("/")
        url = os.environ.get(f"{chat.upper()}_URL", "")
        if chat not in ("dingtalk", "wecom", "feishu", "slack") or not url:
            self.close_connection = True
            return self._answer(404, f"no {chat.upper()}_URL is set")
        try:
            text = text_of(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            secret = os.environ.get(f"{chat.upper()}_SECRET", "")
            url, body = message(chat, text, url, secret, time.time())
            kind = {"content-type": "application/json"}
            request = Request(url, json.dumps(body).encode(), kind)  # noqa: S310 - as it was given
            with build_opener(NoRedirects).open(request, timeout=4) as answer:
                taken = is_taken(chat, answer.read(65536))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            return self._answer(500, type(error).__name__)  # its text may have the robot's URL
        return self._answer(*((200, "ok") if taken else (500, f"{chat} did not take it")))

    def _answer(self, status: int, msg: str) -> None:
        content = json.dumps({"code": "000" if status == 200 else str(status), "msg": msg}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    port = int(os.environ.get("BRIDGE_PORT", "9097"))
    ThreadingHTTPServer(("127.0.0.1", port), Bridge).serve_forever()
