"""What `receive` prints: a line for each request, for people or as JSON."""

from __future__ import annotations

import time
from typing import Any

from router.cli.printing import say_as
from router.cli.trying.standin import Received
from router.cli.wording import Table, Wording
from router.process.asgi_server import AsgiServer
from router.telemetry.log.lines import stamp

RECEIVE_WORDS: Table = {
    "receiving": (
        "receiving on {url}, any path; Ctrl-C ends it",
        "正在 {url} 接收请求，路径不限；Ctrl-C 结束",
    ),
    "received": (
        "received {number} {number|request|requests}; answered: {codes}",
        "共收到 {number} 个请求；返回码：{codes}",
    ),
    "none": ("none", "无"),
    "no key": ("(no event_key)", "（无 event_key）"),
    "bytes": ("{number} bytes", "{number} 字节"),
    "trusted": ("signature right", "签名正确"),
    "distrusted": ("not trusted: {why}", "不可信：{why}"),
    # As Signer.why_not has them.
    "why.absent": ("there is no {header}", "没有 {header}"),
    "why.no time": ("webhook-timestamp is no Unix time", "webhook-timestamp 不是 Unix 时间"),
    "why.old": (
        "webhook-timestamp is {seconds} s old, {most} are allowed",
        "webhook-timestamp 是 {seconds} 秒之前的，最多允许 {most} 秒",
    ),
    "why.ahead": (
        "webhook-timestamp is {seconds} s ahead of this clock, {most} are allowed",
        "webhook-timestamp 比本机时钟快 {seconds} 秒，最多允许 {most} 秒",
    ),
    "why.wrong": (
        "no signature is right: another secret, or a changed body",
        "没有一个签名正确：密钥不同，或请求体被改动",
    ),
}


class ReceivedPrinter:
    """Prints each request, and stops the server once nobody reads that any more."""

    def __init__(self, format: str, words: Wording) -> None:
        self._format = format
        self._words = words
        self.server: AsgiServer | None = None
        #: Why nothing can be printed any more.
        self.failure: OSError | None = None

    def show(self, received: Received) -> None:
        try:
            say_as(self._format, map(_as_json, [received]), map(self._line, [received]))
        except OSError as error:
            self.failure = error
            if self.server is not None:
                self.server.stop()

    def _line(self, received: Received) -> str:
        words = self._words
        key = received.event_key or words("no key")
        webhook_id = received.headers.get("webhook-id") or words("none")
        size = words("bytes", number=str(len(received.body)))
        return (
            f"{stamp(time.time())}  {received.method} {received.path}  {key}  {size}  "
            f"webhook-id {webhook_id}  -> {received.status} {received.code}{self._trust(received)}"
        )

    def _trust(self, received: Received) -> str:
        if received.distrusted is None:
            return ""
        if not received.distrusted:
            return f"  {self._words('trusted')}"
        return f"  {self._words('distrusted', why=self._words.of(received.distrusted))}"


def _as_json(received: Received) -> dict[str, Any]:
    return {
        "time": stamp(time.time()),
        "method": received.method,
        "path": received.path,
        "event_key": received.event_key or None,
        "webhook_id": received.headers.get("webhook-id") or None,
        "bytes": len(received.body),
        "status": received.status,
        "code": received.code,
        **({} if received.distrusted is None else {"distrusted": received.distrusted or None}),
        "headers": received.headers,
        "body": received.body.decode("utf-8", "replace"),
    }
