"""The ops port over real HTTP: metrics, status, tokens, limits."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from router import __version__
from router.config import loading
from router.config.fitting import FileRefusal
from router.config.loading import Config
from router.config.reload import ConfigState
from router.config.settings import Settings
from router.contract.intake import Intake
from router.delivery.observations import Observations
from router.delivery.recovery import Recoveries
from router.model.build import COMPILED
from router.model.errors import Problem
from router.model.event import Attempt, Event, Reason
from router.net.http.connection import Limits
from router.net.listening import SEND_BUFFER, listen
from router.ops import answers
from router.ops import port as ops_module
from router.ops.answers import PIECE
from router.ops.api.view import ApiParts
from router.ops.guard import SAFE, OpsTokens, refuse
from router.ops.hour import History
from router.ops.insight import MAX_SHOWN_PROBLEMS, Identity, Insight
from router.ops.port import api_parts, limits_of, ops_app
from router.ops.status import status_of
from router.process.server import Server, ops_services
from router.store.protocol import StoreLimits
from router.store.sqlite.store import SqliteStore
from router.telemetry.log import Log
from router.telemetry.metrics import MAX_FAULTS, RECENT_GAP, Metrics
from tests.support.house import PATIENCE, routes
from tests.support.servers import served
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

#: Planted where a configuration takes a secret.
CANARY = "canary-5d1f"

NONE = OpsTokens(None, {}, None)


def configured(**top: Any) -> Config:
    targets = {
        "ledger": {
            "url": f"https://ledger.example.com/hook?token={CANARY}",
            "headers": {"authorization": f"Bearer {CANARY}"},
            "owner": "payments",
        }
    }
    document = routes(targets, {"audit": "https://audit.example.com/"}, **top)
    return loading.parse(json.dumps(document).encode(), "routes.yaml", {}, None)


class Process:
    """The parts of a router that the ops port reads."""

    def __init__(self, **top: Any) -> None:
        self.config_state = ConfigState(configured(**top), since=1000.0, tried_at=1000.0)
        self.metrics = Metrics()
        self.metrics.adopt(self.config_state.config.table.targets)
        for name, target in self.config_state.config.table.targets.items():
            self.metrics.of(name).about = {"owner": target.owner, "role": "required"}
        self.metrics.reload_successful = 1
        self.ready = True
        self.lag = 0.001

    def status(self) -> dict[str, Any]:
        return status_of(self.insight(Log()).report(), time.time())

    def reasons(self) -> list[str]:
        """Return why the service is degraded; `status`, the causes and the checks agree with it."""
        status = self.status()
        reasons: list[str] = status["reasons"]
        assert status["status"] == ("degraded" if reasons else "ok")
        causes = [cause for cause in status["causes"] if cause["severity"] != "notice"]
        assert reasons == [f"{each['check']}: {each['text']}" for each in causes]
        checks = {name: check for name, check in status.items() if isinstance(check, Mapping)}
        bad = [name for name, check in checks.items() if not check.get("ok", True)]
        assert {*bad} == {why.partition(":")[0] for why in reasons}
        return reasons

    def insight(self, log: Log) -> Insight:
        return Insight(
            Identity(),
            self.metrics,
            self.config_state,
            Intake.of(None),
            History(self.metrics, time.time()),
            Observations(time.time()),
            Recoveries(),
            log,
            store=("sqlite", ""),
            health=lambda: (self.ready, self.lag),
        )


#: Changes something about a router.
Change = Callable[[Process], object]


@dataclass
class Ops:
    """A running ops port, its client, and its log."""

    url: str
    http: httpx.AsyncClient
    log: io.StringIO
    server: Server
    parts: ApiParts

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(self.url + path, **options)


@asynccontextmanager
async def serving(
    process: Process,
    tokens: OpsTokens = NONE,
    limits: Limits | None = None,
    store: Path | None = None,
) -> AsyncIterator[Ops]:
    """Serve the ops port of this router."""
    stream = io.StringIO()

    log = Log(stream, "json")
    parts = api_parts(Settings(store=store), process.insight(log), tokens, [], log)
    app = ops_app(parts, tokens, log, local=True)
    server = Server(
        app,
        listen("127.0.0.1", 0),
        lifespan=partial(aclosing, parts.stored),
        limits=limits_of(limits or Limits()),
        refusal=refuse,
    )
    async with served(server), httpx.AsyncClient(timeout=PATIENCE, **PLAIN) as client:
        yield Ops(server.url, client, stream, server, parts)


# /metrics.


@pytest.mark.parametrize(
    ("accept", "kind", "end"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", "\n"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1",
            "# EOF\n",
        ),
    ],
)
async def test_a_scrape_has_the_format_that_it_asks_for(accept: str, kind: str, end: str) -> None:
    """The text format of Prometheus, unless `Accept` prefers OpenMetrics."""
    process = Process()
    process.metrics.event("000", 0.1)
    async with serving(process) as ops:
        response = await ops.get("/metrics", headers={"accept": accept})
    assert response.headers["content-type"].startswith(kind)
    assert response.text.endswith(end)
    assert 'ebaas_router_events_total{code="000"} 1.0' in response.text.splitlines()


# /status.


async def test_a_healthy_router_is_ok() -> None:
    """Without a reason, and with its version and the configuration in force."""
    process = Process()
    assert process.reasons() == []
    status = process.status()
    assert (status["version"], status["compiled"]) == (__version__, COMPILED)
    configuration = status["configuration"]
    assert configuration["hash"] == configured().hash
    assert configuration["since"] == "1970-01-01T00:16:40Z"
    assert (status["process"]["ready"], status["store"]["kind"]) == (True, "sqlite")
    targets = status["targets"]["each"]
    assert (targets["ledger"]["owner"], targets["audit"]["state"]) == ("payments", "idle")


def differ(seconds: float) -> Change:
    return lambda process: setattr(process.metrics, "configurations_differ", seconds)


def full(part: float) -> Change:
    return lambda process: setattr(process.metrics, "store_fullness", part)


def dead_letters(process: Process) -> None:
    """Also of a target that is in no configuration any more."""
    process.metrics.of("ledger").unsettled["dead"] = 1
    process.metrics.of("gone").unsettled.update(dead=2, queued=3)


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (differ(59.0), []),  # a roll-out
        (differ(75.0), ["configuration: nodes have run different configurations for 75 s"]),
        (full(0.49), []),
        (full(0.5), ["store: 50% full"]),
        (lambda process: setattr(process, "lag", 1.25),
         ["loop: blocked for 1.25 s in the last minute"]),
        (lambda process: setattr(process, "ready", False), ["process: not ready"]),
        (dead_letters, ["targets: ledger has 1 dead letter",
                        "targets: (removed) has 2 dead letters",
                        "targets: (removed) has 3 queued"]),
        # Strangers ask for other paths all day.
        (lambda process: process.metrics.refuse("404"), []),
    ],
)  # fmt: skip
async def test_reasons_to_be_degraded(change: Change, reasons: list[str]) -> None:
    """Each names its check; its cause is there as data too."""
    process = Process()
    change(process)
    assert process.reasons() == reasons


async def test_a_refused_reload_is_shown_in_the_loaders_words() -> None:
    """With some of its problems, and the number of the others."""
    process = Process()
    problems = [Problem("routes.yaml", line, 3, "targets", "wrong") for line in range(1, 31)]
    process.config_state.refused = {"routes.yaml": FileRefusal("", tuple(problems))}
    (reason,) = process.reasons()
    shown = process.status()["configuration"]["last_reload"]
    assert reason.endswith("30 problems")
    assert shown["problems"][0] == "routes.yaml:1:3: targets: wrong"
    assert (len(shown["problems"]), shown["more"]) == (MAX_SHOWN_PROBLEMS, 30 - MAX_SHOWN_PROBLEMS)


async def test_a_failing_target_is_named_with_its_reason() -> None:
    """With the number of its recent attempts that failed, and how the last one did."""
    process = Process()
    attempt = process.metrics.of("ledger").attempt
    attempt(Attempt(Reason.CODE, True, 5.0, 200, "code '200'", at=time.time()))
    (reason,) = process.reasons()
    assert reason.startswith("targets: ledger is failing since 2")
    assert reason.endswith("Z, 1 of the last 1 attempt failed: code (200, code '200')")
    ledger = process.status()["targets"]["each"]["ledger"]
    failure = ledger["last_failure"]
    assert [failure[each] for each in ("reason", "status", "detail")] == ["code", 200, "code '200'"]
    assert (ledger["severity"], ledger["lately"]) == ("critical", {"attempts": 1, "failed": 1})


async def test_a_store_that_fails_is_degraded_until_it_has_recovered() -> None:
    """Its last error counts for a minute."""
    process = Process()
    process.metrics.store_failed("disk_full")
    (reason,) = process.reasons()
    assert reason.startswith("store: disk_full, last at ")
    process.metrics.store_failed_at = time.time() - 120
    assert process.reasons() == []
    assert process.status()["store"]["error"] == "disk_full"
    process.metrics.store_failed("gone")
    (reason,) = process.reasons()
    advice = "its file or lock was deleted or replaced: restart the router"
    assert reason.startswith(f"store: gone ({advice}), last at ")


async def test_events_without_a_route_are_counted_until_their_retries_end() -> None:
    """Each once, with their keys. After an hour without one the count begins anew."""
    process, event = Process(), Event.of({"event_key": "a.b.c.d"})
    for body in ("1", "2", "1"):
        process.metrics.no_route("500", event, body)
    process.metrics.no_route("500", Event.of({"event_key": "e.f.g.h"}), "3")
    process.metrics.no_route("000", Event.of({"event_key": "accepted.b.c.d"}), "4")
    (reason,) = process.reasons()
    assert reason.startswith("callbacks: 3 events matched no route since 2")
    assert "Z: 'a.b.c.d' (2), 'e.f.g.h' (1); EBaaS retries until 2" in reason
    unmatched = process.status()["callbacks"]["unmatched"]
    assert (unmatched["count"], unmatched["keys"]) == (3, {"a.b.c.d": 2, "e.f.g.h": 1})
    for recent in process.metrics.rejected.values():
        recent.last -= RECENT_GAP
    assert process.reasons() == []
    assert process.status()["callbacks"]["unmatched"]["count"] == 0
    process.metrics.no_route("500", event, "1")
    (reason,) = process.reasons()
    assert reason.startswith("callbacks: 1 event matched no route since 2")


@pytest.mark.parametrize(
    ("code", "advice", "seconds"),
    [
        ("400", "`refused`", RECENT_GAP),
        ("413", "1 MiB", RECENT_GAP),
        ("418", "`refused`", RECENT_GAP),
        ("503", "--max-requests", 301.0),  # an overload ends soon
    ],
)
async def test_refused_callbacks_are_counted_with_what_to_do(
    code: str, advice: str, seconds: float
) -> None:
    """By the code of the reply and the fault, until EBaaS must have sent its next retry."""
    process = Process()
    for why in ("no JSON object", "event_key: required", "no JSON object"):
        process.metrics.refuse(code, why)
    (reason,) = process.reasons()
    assert reason.startswith(f"callbacks: 3 callbacks refused with {code} since 2")
    assert "Z, no JSON object (2), event_key: required (1): " in reason
    assert advice in reason
    assert process.status()["callbacks"]["refused"][code]["count"] == 3
    for recent in process.metrics.rejected.values():
        recent.last -= seconds
    assert process.reasons() == []


async def test_callers_that_are_turned_away_are_wrong_only_if_nobody_gets_in() -> None:
    """Strangers try tokens all day. If no event has come since, EBaaS may have a wrong one."""
    process = Process()
    process.metrics.refuse("401")
    assert process.reasons() == []
    process.metrics.event("000", 0.1)
    assert process.reasons() == []
    (cause,) = process.status()["causes"]
    assert (cause["code"], cause["severity"]) == ("turned_away", "notice")
    process.metrics.last_event -= 360.0
    process.metrics.rejected["401", ""].unbroken -= 301.0
    # Strangers that came before the last event, hours ago, change nothing about that.
    process.metrics.rejected["401", ""].since -= 7200.0
    (reason,) = process.reasons()
    assert reason.startswith("callbacks: 1 callback refused with 401 since 2")
    assert "ebaas.token" in reason


async def test_what_is_remembered_of_rejections_is_bounded() -> None:
    """Also the keys and bodies of a caller that makes up new ones. All of them are counted."""
    process = Process()
    for number in range(5000):
        event = Event.of({"event_key": f"{number}." + "x" * 1000})
        process.metrics.no_route("500", event, f"{number}")
    process.metrics.refuse("400", "no JSON object", "1")
    (reason, _) = process.reasons()
    assert reason.startswith("callbacks: 5000 events matched no route since 2")
    assert len(process.metrics.rejected) <= MAX_FAULTS + 2
    assert len(json.dumps(process.status())) < 128 * 1024


async def test_no_secret_is_shown() -> None:
    """No address of a target and no value of a header, in the status or in the metrics."""
    process = Process()
    process.metrics.of("ledger").attempt(Attempt(Reason.DNS, True, 0.1, at=time.time()))
    async with serving(process) as ops:
        shown = (await ops.get("/status")).text + (await ops.get("/metrics")).text
    assert "ledger" in shown
    assert CANARY not in shown
    assert "example.com" not in shown


# Anything else.


@pytest.mark.parametrize(
    ("method", "path", "code", "allow"),
    [
        ("GET", "/metrics/", 404, None),
        ("POST", "/metrics", 405, "GET, HEAD"),
        ("HEAD", "/api/v1/stream", 405, "GET"),
    ],
)
async def test_other_requests_get_a_problem(
    method: str, path: str, code: int, allow: str | None
) -> None:
    """No path is redirected; a 405 has the methods of the path. A HEAD opens no stream."""
    async with serving(Process()) as ops:
        response = await ops.http.request(method, ops.url + path)
    assert (response.status_code, response.headers.get("allow")) == (code, allow)
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_fault_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """The fault is logged, and not in the reply."""
    process = Process()
    async with serving(process) as ops:
        process.lag = None  # type: ignore[assignment]
        response = await ops.get("/status")
    assert (response.status_code, response.json()["code"]) == (500, "failed")
    assert response.headers["cache-control"] == "no-store"
    assert [record.name for record in caplog.records] == ["uvicorn.error"]


# The page.


async def test_the_page_is_served(tmp_path: Path) -> None:
    """Without a token, since it has no data. A browser revalidates the page, keeps the files of its
    version for ever, and loads nothing from elsewhere."""
    async with serving(Process(), tokens=in_file(tmp_path, "a-token-of-the-port")) as ops:
        page = await ops.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        policy = page.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= {*policy}
        assert "unsafe" not in str(policy)
        links = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
        assert len(links) > 5
        for link in links:
            file = await ops.get(link)
            assert re.search("javascript|css", file.headers["content-type"])
            assert file.headers["content-encoding"] == "gzip"
            assert file.headers["cache-control"] == "max-age=31536000, immutable"
            assert file.headers["x-content-type-options"] == "nosniff"
            other = await ops.get(re.sub("/page/[^/]+/", "/page/other/", link))
            assert (other.headers["cache-control"], other.text) == ("no-cache", file.text)
        for path in ("/page/", "/page/x/", "/page/x/../../port.py", "/page/x/%2e%2e/port.py",
                     "/page/../port.py", "/page/x//etc/passwd"):  # fmt: skip
            assert (await ops.get(path)).status_code in (401, 404), path


# The token.

PATHS = ("/metrics", "/status", "/elsewhere")


def in_file(folder: Path, *tokens: str, may: str = "read") -> OpsTokens:
    path = folder / "tokens"
    path.write_text(f"tokens: [{{name: ops, token: [{', '.join(tokens)}], may: {may}}}]")
    return OpsTokens(path, {}, None)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", PATHS)
async def test_with_tokens_a_request_needs_one(path: str, tmp_path: Path) -> None:
    """Without it the reply is a 401, for any path."""
    tokens = in_file(tmp_path, "the-old-ops-token", "the-new-ops-token")
    async with serving(Process(), tokens=tokens) as ops:
        for headers in ({}, bearer("another"), {"authorization": "Basic the-old-ops-token"}):
            refused = await ops.get(path, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "wrong_token")
            assert refused.headers["www-authenticate"] == "Bearer"
        for token in ("the-old-ops-token", "the-new-ops-token"):
            expected = 200 if path in ("/metrics", "/status") else 404
            assert (await ops.get(path, headers=bearer(token))).status_code == expected
        lines = [json.loads(line) for line in ops.log.getvalue().splitlines()]
    assert [line["why"] for line in lines] == [
        "at the ops port: no token",
        "at the ops port: a wrong token",
        "at the ops port: a wrong token",
    ]
    assert "token" not in ops.log.getvalue().replace("no token", "").replace("a wrong token", "")


@pytest.mark.parametrize("tokens", [(), ("a-token-of-the-port",)])
async def test_safe_headers(tokens: tuple[str, ...], tmp_path: Path) -> None:
    """No reply may be stored, framed, run or read by another site's page, or shows a version."""
    known = in_file(tmp_path, *tokens) if tokens else NONE
    async with serving(Process(), tokens=known) as ops:
        for path in PATHS:
            answer = await ops.get(path, headers={"origin": "https://elsewhere.example.com"})
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"].startswith("default-src 'none';")
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert not answer.headers.keys() & {"server", "x-powered-by", "via"}
        # Nor does a preflight give permission.
        asked = {"origin": "https://elsewhere.example.com", "access-control-request-method": "GET"}
        answer = await ops.http.options(ops.url + "/status", headers=asked)
        assert answer.status_code in (401, 405)
        assert not [name for name in answer.headers if name.startswith("access-control-")]


# Limits of its clients.

SOON = Limits(first_byte=0.4, receive=0.4, keep_alive=0.4, reply=0.4, linger=0.4)


async def reply_to(ops: Ops, *packets: bytes) -> bytes:
    """Return everything that arrives on one connection."""
    reader, writer = await asyncio.open_connection(*ops.url.removeprefix("http://").split(":"))
    for packet in packets:
        with suppress(ConnectionError):
            writer.write(packet)
            await writer.drain()
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()


TOP = b"GET /status HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("packets", "status"),
    [
        ([TOP] + [b"A: b\r\n" * 2_000] * 100, b"431"),
        ([b"nonsense\r\n\r\n"], b"400"),
        ([TOP], b"408"),
    ],
    ids=["headers without end", "no HTTP", "slow"],
)
async def test_requests_are_bounded(packets: list[bytes], status: bytes) -> None:
    """By the limits of the callback port (tests/net/http). The refusals have the headers of all
    replies."""
    async with serving(Process(), limits=SOON) as ops:
        answer = await reply_to(ops, *packets)
    assert answer.startswith(b"HTTP/1.1 %b " % status)
    for name, value in SAFE:
        assert b"\r\n%b: %b\r\n" % (name, value) in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == status.decode()


async def test_its_connections_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones get 503, with the headers of all replies."""
    monkeypatch.setattr(ops_module, "CONNECTIONS", 2)
    async with serving(Process()) as ops:
        address = ops.url.removeprefix("http://").split(":")
        held = [await asyncio.open_connection(*address) for _ in range(2)]
        answer = await reply_to(ops, TOP + b"\r\n")
        for _, writer in held:
            writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\ncache-control: no-store\r\n" in answer


# A hostile token.

#: Each has some 700 bytes in a status.
MANY = 8_000


@pytest.fixture
def many() -> Process:
    process = Process()
    process.metrics.adopt([f"target-{number}" for number in range(MANY)])
    return process


def read_of(url: str, path: str, *, pause: float = 0.0) -> bytes:
    """Read an answer until the connection ends, with a pause after each 64 KiB."""
    host, port = url.removeprefix("http://").split(":")
    read = bytearray()
    with socket.socket() as connection:
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)  # not megabytes
        connection.connect((host, int(port)))
        connection.sendall(TOP.replace(b"/status", path.encode()) + b"Connection: close\r\n\r\n")
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                read += part
                time.sleep(pause)
    return bytes(read)


async def test_a_status_of_many_targets_does_not_stop_the_loop(many: Process) -> None:
    """It is made beside the loop, once for all who ask again and again."""
    worst = 0.0

    async def measure() -> None:
        nonlocal worst
        while True:
            before = time.thread_time()  # which does not depend on what else the machine does
            await asyncio.sleep(0.005)
            worst = max(worst, time.thread_time() - before)

    async with serving(many) as ops:
        measuring = asyncio.create_task(measure())
        reading = [asyncio.to_thread(read_of, ops.url, "/status") for _ in range(3)]
        read = await asyncio.gather(*reading)
        measuring.cancel()
    reports = [json.loads(answer.partition(b"\r\n\r\n")[2]) for answer in read]
    assert len(reports[0]["targets"]["each"]) == MANY
    assert len({report["at"] for report in reports}) == 1
    assert worst < 0.15


async def test_a_client_that_does_not_read_holds_little(
    many: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection has two pieces of its answer, and a holder one large answer; it is cut soon."""
    monkeypatch.setattr(ops_module, "REPLY", 1.0)
    monkeypatch.setattr(answers, "OWN", 1024 * 1024)
    async with serving(many) as ops:
        address = ops.url.removeprefix("http://").split(":")
        held = [await asyncio.open_connection(*address, limit=1) for _ in range(6)]
        for _, writer in held:
            writer.write(TOP + b"\r\n")
        heads = [await reader.readexactly(12) for reader, _ in held]
        assert sorted(heads) == [b"HTTP/1.1 200", *[b"HTTP/1.1 503"] * 5]
        unread = [c.transport.get_write_buffer_size() for c in ops.server.tally.connections]
        assert sum(unread) < 4 * PIECE
        await until(lambda: ops.server.tally.refused["unread"] == 1)
        answer = await ops.get("/status")
        assert answer.status_code == 200
        for _, writer in held:
            writer.close()


async def test_a_slow_reader_gets_all(many: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for each piece, not for the whole."""
    monkeypatch.setattr(ops_module, "REPLY", 1.5)
    async with serving(many) as ops:
        answer = await asyncio.to_thread(read_of, ops.url, "/status", pause=0.05)
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["targets"]["each"]) == MANY


async def test_an_answer_is_shared_only_with_who_asked_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A team does not get what was made for all; an event that is explained is nobody else's."""
    monkeypatch.setattr(answers, "LONG", -1.0)
    monkeypatch.setattr(answers, "SHARED", 1e9)
    path = tmp_path / "tokens"
    who = {"all": "", "team": ", owner: payments"}
    holders = [f"{{name: {n}, token: {n}-{'x' * 20}, may: read{more}}}" for n, more in who.items()]
    path.write_text(f"tokens: [{', '.join(holders)}]")
    async with serving(Process(), OpsTokens(path, {}, None)) as ops:

        async def ask(name: str, method: str, path: str, **options: Any) -> str:
            headers = bearer(f"{name}-{'x' * 20}")
            url = f"{ops.url}/api/v1{path}"
            return (await ops.http.request(method, url, headers=headers, **options)).text

        for path_ in ("/targets", "/status", "/routes"):
            assert "audit" in await ask("all", "GET", path_)
            assert "audit" not in await ask("team", "GET", path_)
        keys = ("a.b.c.d", "e.f.g.h")
        asked = [ask("all", "POST", "/explain", json={"key": key}) for key in keys]
        explained = [
            json.loads(text)["event"]["event_key"] for text in await asyncio.gather(*asked)
        ]
    assert explained == [*keys]


async def test_a_pause_does_not_wait_for_questions(tmp_path: Path) -> None:
    """However many somebody else asks of the store."""
    tokens = in_file(tmp_path, "a-token-of-the-port", may="[read, pause]")
    store = await SqliteStore.open(tmp_path / "store.db", StoreLimits(1 << 30))
    serving_it = serving(Process(), tokens, store=tmp_path / "store.db")
    async with serving_it as ops, ops.parts.stored.question():
        pause = {"until": "10m", "because": "a move"}
        url, headers = f"{ops.url}/api/v1/targets/ledger/pause", bearer("a-token-of-the-port")
        answer = await ops.http.post(url, json=pause, headers=headers)
    await store.close()
    assert answer.status_code == 200, answer.text


def test_the_kernel_fits_the_buffer_to_the_link() -> None:
    """At the ops port; a reply to a callback is small, and so is its buffer."""
    identity, log = Identity(), Log(io.StringIO())
    settings = Settings(store=None, ops_port=free_port())
    [server, *_], _ = ops_services(settings, [], Process().insight(log), log, identity.ops_key)
    assert isinstance(server, Server)
    with server.listener as ours, listen("127.0.0.1", 0) as callbacks:
        sizes = [it.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for it in (ours, callbacks)]
    assert sizes[1] == 2 * SEND_BUFFER
    assert sizes[0] != sizes[1]
