"""A real Prometheus and a real Alertmanager, and whom that tells. scripts/monitoring fetches their
programs."""

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
    """What it printed, having found nothing wrong."""
    done = subprocess.run(
        [Path(PROGRAMS) / name, *arguments], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


@contextmanager
def started(name: str, folder: Path, *options: str) -> Iterator[str]:
    """Its address, once it is ready, and until the block ends. It chooses its port."""
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
        """The series that it leads to now, but for those that are no number."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return [series for series in found if series["value"][1] != "NaN"]

    def unanswered(self, queries: Sequence[str]) -> list[str]:
        """Those that lead to no series, each time that they were asked for a while: a scrape that
        was too late leaves a gap."""
        left, deadline = list(queries), time.monotonic() + PATIENCE
        while left and time.monotonic() < deadline:
            left = [query for query in left if not self.query(query)]
            time.sleep(0.05 if left else 0)
        return left

    def values(self, label: str, match: str) -> set[str]:
        """Of a label, as Grafana asks for those of a variable."""
        return set(self.ask(f"label/{label}/values", **{"match[]": match}))

    def scraped(self) -> None:
        """Return once two more scrapes have succeeded."""
        for _ in range(2):
            wait_until(partial(self._is_scraped_since, time.time()))

    def _is_scraped_since(self, moment: float) -> bool:
        # Of `up` itself: the timestamp of an expression is that of the question.
        found = self.query("timestamp(up) and up == 1")
        return any(float(each["value"][1]) > moment for each in found)


class Inbox(ThreadingHTTPServer):
    """Whom Alertmanager tells: WeCom, or a bridge."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        #: What was posted, in the order in which it came: the path, and the text.
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
        """As WeCom does; a webhook's answer is not read."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"errcode": 0, "access_token": "token", "expires_in": 7200}')

    def log_message(self, *_: Any) -> None:
        """Nothing to say."""


@contextmanager
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    with serving_in_a_thread(server):
        yield server
