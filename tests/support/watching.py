"""A real Prometheus and a real Alertmanager, and a receiver of its messages. scripts/monitoring
fetches their programs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.support.command import PATIENCE
from tests.support.sockets import PLAIN, serving_in_a_thread
from tests.support.waiting import wait_until

#: The folder of their programs; `make monitoring` sets it.
PROGRAMS = os.environ.get("MONITORING", "")

_LISTENING = re.compile(r'msg="Listening on" address=(127\.0\.0\.1:\d+)')


def program(name: str, *arguments: str | Path, stdin: bytes = b"") -> str:
    """Run a program, which has to succeed, and return its output."""
    done = subprocess.run(
        [Path(PROGRAMS) / name, *arguments], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


@contextmanager
def started(name: str, folder: Path, *options: str) -> Iterator[str]:
    """Start a server on a port of its choice, and return its address once it is ready."""
    log = folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [Path(PROGRAMS) / name, "--web.listen-address=127.0.0.1:0", *options],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        wait_until(lambda: _LISTENING.search(log.read_text()) or process.poll() is not None)
        found = _LISTENING.search(log.read_text())
        assert found, log.read_text()
        wait_until(lambda: httpx.get(f"http://{found[1]}/-/ready", **PLAIN).is_success)
        yield found[1]
    finally:
        process.terminate()
        process.wait(PATIENCE)


class Prometheus:
    def __init__(self, address: str) -> None:
        self._api = f"http://{address}/api/v1/"

    def ask(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(self._api + path, params=parameters, **PLAIN)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series of a query, without those whose value is NaN."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return [series for series in found if series["value"][1] != "NaN"]

    def unanswered(self, queries: Sequence[str]) -> list[str]:
        """Return the queries that have no series, after repeating them for a while: a late scrape
        leaves a gap."""
        left, deadline = list(queries), time.monotonic() + PATIENCE
        while left and time.monotonic() < deadline:
            left = [query for query in left if not self.query(query)]
            time.sleep(0.05 if left else 0)
        return left

    def values(self, label: str, match: str) -> set[str]:
        """Return the values of a label, as Grafana does for a variable."""
        return set(self.ask(f"label/{label}/values", **{"match[]": match}))

    def scraped(self) -> None:
        """Return once two more scrapes have succeeded."""
        for _ in range(2):
            wait_until(partial(self._is_scraped_since, time.time()))

    def _is_scraped_since(self, moment: float) -> bool:
        # Of `up` itself: an expression has the timestamp of the query.
        found = self.query("timestamp(up) and up == 1")
        return any(float(each["value"][1]) > moment for each in found)


class Inbox(ThreadingHTTPServer):
    """The receiver of Alertmanager's messages: WeCom, or a bridge."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        #: The paths and texts of its messages, in their order.
        self.got: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Taking(BaseHTTPRequestHandler):
    server: Inbox

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.got.append((self.path.partition("?")[0], text))
        self._answer()

    def _answer(self) -> None:
        """Reply as WeCom does; a webhook's reply is not read."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"errcode": 0, "access_token": "token", "expires_in": 7200}')

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    with serving_in_a_thread(server):
        yield server
