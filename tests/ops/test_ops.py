"""The ops port over real HTTP: what it shows of the service, and of what is wrong with it."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from router import __version__
from router.config import loading
from router.config.holders import TokenHolder
from router.config.loading import Config
from router.config.reload import Standing
from router.config.settings import Settings
from router.contract.intake import Intake
from router.model.build import COMPILED
from router.model.errors import Problem, StartFailed
from router.model.event import Attempt, Event, Reason
from router.net.access import Denial
from router.net.http.lifetime import Limits
from router.net.listening import listen
from router.ops import port as ops_module
from router.ops.guard import SAFE, OpsTokens, refuse, secrets_in
from router.ops.heartbeat import Identity, described
from router.ops.hour import History
from router.ops.insight import Insight, Report, report_of
from router.ops.port import api_parts, limits_of, ops_app
from router.ops.status import MAX_SHOWN_PROBLEMS
from router.process.server import Server
from router.store.protocol import Node
from router.telemetry.log import Log
from router.telemetry.metrics import RECENT_GAP, Metrics
from tests.support.house import PATIENCE, routes
from tests.support.servers import served
from tests.support.sockets import PLAIN

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
    """The router, as far as it reports."""

    def __init__(self, **top: Any) -> None:
        self.standing = Standing(configured(**top), since=1000.0, tried=1000.0)
        self.metrics = Metrics()
        self.metrics.adopt(self.standing.config.table.targets)
        for name, target in self.standing.config.table.targets.items():
            self.metrics.of(name).about = {"owner": target.owner, "role": "required"}
        self.metrics.reload_successful = 1
        self.ready = True
        self.lag = 0.001

    def report(self) -> Report:
        store = ("sqlite", "")
        return report_of(self.metrics, self.standing, ready=self.ready, store=store, lag=self.lag)

    def insight(self, log: Log) -> Insight:
        def describe() -> Node:
            ready, lag = self.ready, self.lag
            return described(Identity(), self.metrics, self.standing, ready=ready, lag=lag)

        history = History(self.metrics, time.time())
        return Insight(self.report, describe, self.standing, Intake.of(None), history, log)


@dataclass
class Ops:
    """A running ops port, and whom it asks."""

    url: str
    http: httpx.AsyncClient
    log: io.StringIO

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(self.url + path, **options)

    async def status(self) -> dict[str, Any]:
        response = await self.get("/status")
        assert response.status_code == 200
        said: dict[str, Any] = response.json()
        return said

    async def reasons(self) -> list[str]:
        """Why the service is degraded; `status` and the checks agree with it."""
        said = await self.status()
        assert said["status"] == ("degraded" if said["reasons"] else "ok")
        checks = {name: check for name, check in said.items() if isinstance(check, Mapping)}
        bad = [name for name, check in checks.items() if not check.get("ok", True)]
        assert bad == list(dict.fromkeys(why.partition(":")[0] for why in said["reasons"]))
        reasons: list[str] = said["reasons"]
        return reasons


@asynccontextmanager
async def serving(
    process: Process, tokens: OpsTokens = NONE, limits: Limits | None = None
) -> AsyncIterator[Ops]:
    """The ops port of this router."""
    stream = io.StringIO()

    log = Log(stream, "json")
    parts = api_parts(Settings(store=None), process.insight(log), tokens, [], log)
    app = ops_app(parts, log, local=True)
    server = Server(
        app,
        listen("127.0.0.1", 0),
        lifespan=parts.lifespan,
        limits=limits_of(limits or Limits()),
        refusal=refuse,
    )
    async with served(server), httpx.AsyncClient(timeout=PATIENCE, **PLAIN) as client:
        ops = Ops(server.url, client, stream)
        yield ops


# /metrics.


async def test_a_scrape_has_what_was_counted() -> None:
    """`/metrics` in the text format of Prometheus."""
    process = Process()
    process.metrics.event("000", 0.1)
    async with serving(process) as ops:
        response = await ops.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    assert 'ebaas_router_events_total{code="000"} 1.0' in lines


async def test_a_scraper_gets_the_format_it_asks_for() -> None:
    """`Accept` decides, as Prometheus sends it."""
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    async with serving(Process()) as ops:
        response = await ops.get("/metrics", headers={"accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1")
    assert response.text.endswith("# EOF\n")


# /status.


async def test_all_is_well() -> None:
    """A healthy service is `ok`, without a reason, and shows the configuration in force."""
    async with serving(Process()) as ops:
        assert await ops.reasons() == []
        said = await ops.status()
    assert said["configuration"]["hash"] == configured().hash
    assert said["configuration"]["since"] == "1970-01-01T00:16:40Z"
    assert said["process"]["ready"]
    assert said["store"]["kind"] == "sqlite"
    assert said["targets"]["each"]["ledger"]["owner"] == "payments"
    assert said["targets"]["each"]["audit"]["last_acknowledged"] is None


async def test_a_refused_reload_is_shown_in_the_loaders_words() -> None:
    """`/status` says that the last reload was refused, and what the loader said; at most so many
    problems, and how many there are besides."""
    process = Process()
    problems = [Problem("routes.yaml", line, 3, "targets", "wrong") for line in range(1, 31)]
    process.standing.successful, process.standing.problems = False, tuple(problems)
    async with serving(process) as ops:
        (reason,) = await ops.reasons()
        shown = (await ops.status())["configuration"]["last_reload"]
    assert reason.endswith("30 wrong")
    assert shown["problems"][0] == "routes.yaml:1:3: targets: wrong"
    assert (len(shown["problems"]), shown["more"]) == (MAX_SHOWN_PROBLEMS, 30 - MAX_SHOWN_PROBLEMS)


async def test_status_says_what_runs() -> None:
    """Which version, and whether it is compiled."""
    async with serving(Process()) as ops:
        said = await ops.status()
    assert (said["version"], said["compiled"]) == (__version__, COMPILED)


async def test_nodes_that_differ_for_long_are_seen() -> None:
    """For a minute it is a roll-out, after that a node that was forgotten."""
    process = Process()
    process.metrics.configurations_differ = 59.0
    async with serving(process) as ops:
        assert await ops.reasons() == []
        process.metrics.configurations_differ = 75.0
        assert await ops.reasons() == ["configuration: the nodes have run different ones for 75 s"]


async def test_a_target_that_fails_is_named_with_its_reason() -> None:
    """A target whose last attempt failed is failing, until it acknowledges; with what is known of
    the failure beside its reason."""
    process = Process()
    process.metrics.of("ledger").attempt(
        Attempt(Reason.CODE, True, 5.0, 200, "code '200'", at=time.time())
    )
    async with serving(process) as ops:
        (reason,) = await ops.reasons()
        assert reason.startswith("targets: ledger fails: code (200, code '200') at 2")
        process.metrics.of("ledger").attempt(
            Attempt(Reason.ACKNOWLEDGED, True, 0.1, at=time.time())
        )
        assert await ops.reasons() == []
        ledger = (await ops.status())["targets"]["each"]["ledger"]
    failure = ledger["last_failure"]
    said = (failure["reason"], failure["status"], failure["detail"])
    assert said == ("code", 200, "code '200'")
    assert ledger["last_acknowledged"] is not None


@pytest.mark.parametrize("what", ["waiting", "waiting_for_rate"])
async def test_a_target_whose_attempts_wait_is_waiting(what: str) -> None:
    """For a place or for its rate: it is not unused, though none has ended yet."""
    process = Process()
    setattr(process.metrics.of("ledger"), what, 5)
    async with serving(process) as ops:
        assert (await ops.status())["targets"]["each"]["ledger"]["state"] == "waiting"


async def test_dead_letters_wait_for_a_person() -> None:
    """A dead letter is a reason, also one whose target is in no configuration any more."""
    process = Process()
    process.metrics.of("ledger").unsettled["dead"] = 1
    process.metrics.of("gone").unsettled.update(dead=2, queued=3)
    async with serving(process) as ops:
        reasons = await ops.reasons()
    assert reasons == [
        "targets: ledger has 1 dead letter",
        "targets: (removed) has 2 dead letters",
        "targets: (removed) has 3 queued",
    ]


async def test_a_store_that_fails_is_degraded_until_it_has_recovered() -> None:
    """The store's last error counts for a minute."""
    process = Process()
    process.metrics.store_failed("disk_full")
    async with serving(process) as ops:
        (reason,) = await ops.reasons()
        assert reason.startswith("store: disk_full, last at ")
        process.metrics.store_failed_at = time.time() - 120
        assert await ops.reasons() == []
        assert (await ops.status())["store"]["error"] == "disk_full"
        process.metrics.store_failed("gone")
        (reason,) = await ops.reasons()
        advice = "its file was deleted or replaced: restart the router"
        assert reason.startswith(f"store: gone ({advice}), last at ")


async def test_events_that_match_no_route_are_counted_until_their_retries_end() -> None:
    """They make the service degraded, with their count, the last one's key and what to do. After
    more than an hour without one it is `ok` again, and the next one starts a new count."""
    process = Process()
    for _ in range(3):
        process.metrics.no_route("500", Event.of({"event_key": "a.b.c.d"}))
    process.metrics.no_route("000", Event.of({"event_key": "accepted.b.c.d"}))
    async with serving(process) as ops:
        (reason,) = await ops.reasons()
        assert reason.startswith("callbacks: 3 events matched no route since 2")
        assert "`ebaas-router explain`" in reason
        assert reason.endswith("'a.b.c.d'")
        assert (await ops.status())["callbacks"]["unmatched"]["count"] == 3
        process.metrics.unmatched_lately.last -= RECENT_GAP
        assert await ops.reasons() == []
        assert (await ops.status())["callbacks"]["unmatched"]["count"] == 0
        process.metrics.no_route("500", Event.of({"event_key": "a.b.c.d"}))
        (reason,) = await ops.reasons()
        assert reason.startswith("callbacks: 1 event matched no route since 2")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("400", "`refused`"),
        ("401", "ebaas.token"),
        ("403", "ebaas.allow_from"),
        ("413", "1 MiB"),
        ("418", "`refused`"),
    ],
)
async def test_refused_callbacks_are_counted_with_what_to_do(code: str, advice: str) -> None:
    """They are counted by the code of the reply, until EBaaS must have sent its next retry."""
    process = Process()
    process.metrics.refuse(code)
    process.metrics.refuse(code)
    async with serving(process) as ops:
        (reason,) = await ops.reasons()
        assert reason.startswith(f"callbacks: 2 callbacks refused with {code} since 2")
        assert advice in reason.partition("Z: ")[2]
        assert (await ops.status())["callbacks"]["refused"][code]["count"] == 2
        process.metrics.refused_lately[code].last -= RECENT_GAP
        assert await ops.reasons() == []


@pytest.mark.parametrize("code", ["404", "405"])
async def test_what_is_no_callback_is_not_told_as_refused(code: str) -> None:
    """A request for another path degrades nothing: strangers send them all day."""
    process = Process()
    process.metrics.refuse(code)
    async with serving(process) as ops:
        assert await ops.reasons() == []


@pytest.mark.parametrize("code", ["401", "503"])
async def test_a_refusal_that_is_got_past_counts_for_minutes(code: str) -> None:
    """Overload ends soon; and after a callback was let in, the token of EBaaS is right."""
    process = Process()
    process.metrics.refuse(code)
    process.metrics.event("000", 0.1)
    async with serving(process) as ops:
        assert len(await ops.reasons()) == 1
        process.metrics.refused_lately[code].last -= 301
        assert await ops.reasons() == []


async def test_a_store_is_degraded_from_half_full_on() -> None:
    """The alarm comes while there is still room."""
    process = Process()
    process.metrics.store_fullness = 0.49
    async with serving(process) as ops:
        assert await ops.reasons() == []
        process.metrics.store_fullness = 0.5
        assert await ops.reasons() == ["store: 50% full"]


async def test_a_blocked_loop_is_told() -> None:
    """A router whose loop was blocked lately is degraded."""
    process = Process()
    process.lag = 1.25
    async with serving(process) as ops:
        assert await ops.reasons() == ["loop: it was blocked for 1.25 s in the last minute"]


async def test_a_router_that_is_not_ready_is_degraded() -> None:
    """A router that drains says so."""
    process = Process()
    process.ready = False
    async with serving(process) as ops:
        assert await ops.reasons() == ["process: it is not ready"]


async def test_nothing_secret_is_shown() -> None:
    """No address of a target, no header's value: neither in the status nor in the metrics."""
    process = Process()
    process.metrics.of("ledger").attempt(Attempt(Reason.DNS, True, 0.1, at=time.time()))
    async with serving(process) as ops:
        shown = (await ops.get("/status")).text + (await ops.get("/metrics")).text
    assert "ledger" in shown
    assert CANARY not in shown
    assert "example.com" not in shown


# Anything else.


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/metrics/", "404"),
        ("GET", "/callback", "404"),
        ("POST", "/metrics", "405"),
        ("DELETE", "/status", "405"),
    ],
)
async def test_what_is_not_there_is_refused_in_the_contracts_json(
    method: str, path: str, code: str
) -> None:
    """Beside the console there are two paths, to be read only; errors are the contract's JSON."""
    async with serving(Process()) as ops:
        response = await ops.http.request(method, ops.url + path)
    assert response.status_code == int(code)
    assert response.json()["code"] == code
    assert set(response.json()) == {"request_id", "code", "msg"}


async def test_a_fault_is_the_contracts_500(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asked gets the contract's JSON, the log the fault."""
    process = Process()
    async with serving(process) as ops:
        process.metrics = None  # type: ignore[assignment]
        response = await ops.get("/status")
    assert (response.status_code, response.json()["code"]) == (500, "500")
    assert response.headers["cache-control"] == "no-store"
    assert [record.name for record in caplog.records] == ["uvicorn.error"]


# The page.


async def test_the_page_is_served(tmp_path: Path) -> None:
    """Without a token, for there is no data in it; each file with its type and its mark, to be
    asked for anew, and allowed nothing from elsewhere."""
    async with serving(Process(), tokens=in_file(tmp_path, "an-ops-token")) as ops:
        page = await ops.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        policy = page.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= {*policy}
        assert "unsafe" not in str(policy)
        again = await ops.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for name, kind in (("api.js", "text/javascript"), ("page.css", "text/css")):
            file = await ops.get(f"/page/{name}")
            assert file.headers["content-type"] == f"{kind}; charset=utf-8"
            assert file.headers["x-content-type-options"] == "nosniff"
        for path in ("/page/", "/page/../port.py", "/page/%2e%2e/port.py", "/page//etc/passwd"):
            assert (await ops.get(path)).status_code in (401, 404), path


# The token.

PATHS = ("/metrics", "/status", "/elsewhere")


def in_file(folder: Path, *tokens: str) -> OpsTokens:
    path = folder / "tokens"
    path.write_text(f"tokens: [{{name: ops, token: [{', '.join(tokens)}], may: read}}]")
    return OpsTokens(path, {}, None)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", PATHS)
async def test_with_a_token_nothing_answers_without_it(path: str, tmp_path: Path) -> None:
    """Whatever is asked for is a 401 in the contract's JSON; with the token it is what it is."""
    tokens = in_file(tmp_path, "old-ops-token", "new-ops-token")
    async with serving(Process(), tokens=tokens) as ops:
        for headers in ({}, bearer("another"), {"authorization": "Basic old-ops-token"}):
            refused = await ops.get(path, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "401")
            assert refused.headers["www-authenticate"] == "Bearer"
        for token in ("old-ops-token", "new-ops-token"):
            expected = 200 if path in ("/metrics", "/status") else 404
            assert (await ops.get(path, headers=bearer(token))).status_code == expected
        lines = [json.loads(line) for line in ops.log.getvalue().splitlines()]
    assert [line["why"] for line in lines] == [
        "at the ops port: no token",
        "at the ops port: a wrong token",
        "at the ops port: a wrong token",
    ]
    assert "token" not in ops.log.getvalue().replace("no token", "").replace("a wrong token", "")


@pytest.mark.parametrize("tokens", [(), ("an-ops-token",)])
async def test_safe_headers(tokens: tuple[str, ...], tmp_path: Path) -> None:
    """No answer may be stored, framed, run or read by another site's page; none tells a version."""
    known = in_file(tmp_path, *tokens) if tokens else NONE
    async with serving(Process(), tokens=known) as ops:
        for path in PATHS:
            answer = await ops.get(path, headers={"origin": "https://elsewhere.example.com"})
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"].startswith("default-src 'none';")
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert not answer.headers.keys() & {"server", "x-powered-by", "via"}


async def test_a_preflight_is_refused() -> None:
    """Another site's page gets no permission to ask."""
    async with serving(Process()) as ops:
        asked = {"origin": "https://elsewhere.example.com", "access-control-request-method": "GET"}
        answer = await ops.http.options(ops.url + "/status", headers=asked)
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_file_of_tokens(tmp_path: Path) -> None:
    """Each token of a holder's list is good, and an empty one is not."""
    tokens = in_file(tmp_path, "first-token", "second-token")
    for token in ("first-token", "second-token"):
        found = tokens.find([(b"authorization", f"Bearer {token}".encode())])
        assert isinstance(found, TokenHolder)
        assert found == TokenHolder("ops", frozenset({"read"}))
    assert tokens.find([(b"authorization", b"Bearer ")]) is Denial.WRONG
    assert not NONE


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "tokens can't be read: no such file or directory"),
        (b"", "tokens has no token in it"),
        (b" \n\n", "tokens has no token in it"),
        (b"canary two\n", "a token in tokens has a blank in it"),
        (b"canary\x00\n", "a token in tokens has a blank in it"),
        (b"canary\xff\n", "tokens has more than ASCII in it"),
    ],
)
def test_a_file_that_has_no_usable_token(
    tmp_path: Path, content: bytes | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start ends with one line, which names the file as it was given, and no token."""
    monkeypatch.chdir(tmp_path)
    path = Path("tokens")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartFailed) as caught:
        secrets_in(path, "--token-file")
    assert str(caught.value) == f"--token-file: {why}"


# What its callers may use up.

SOON = Limits(first_byte=0.4, receive=0.4, keep_alive=0.4, reply=0.4, linger=0.4)


async def said(ops: Ops, *packets: bytes) -> bytes:
    """All that comes back on one connection."""
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
        ([TOP, b"A: " + b"x" * 1_000_000], b"431"),
        ([b"GET /" + b"x" * 1_000_000], b"414"),
        ([b"nonsense\r\n\r\n"], b"400"),
        ([TOP + b"Host: y\r\n\r\n"], b"400"),
        ([TOP], b"408"),
    ],
    ids=["headers without end", "a large header", "a large target", "no HTTP", "two", "slow"],
)
async def test_its_callers_are_bounded(packets: list[bytes], status: bytes) -> None:
    """A head has the callback port's bounds in size and time, and what is said then has the headers
    of all its answers."""
    async with serving(Process(), limits=SOON) as ops:
        answer = await said(ops, *packets)
    assert answer.startswith(b"HTTP/1.1 %b " % status)
    for name, value in SAFE:
        assert b"\r\n%b: %b\r\n" % (name, value) in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == status.decode()


async def test_who_says_nothing_is_closed() -> None:
    """It holds no connection for longer than at the callback port."""
    async with serving(Process(), limits=SOON) as ops:
        assert await said(ops) == b""


async def test_its_connections_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond them each is told 503, with the headers of all its answers."""
    monkeypatch.setattr(ops_module, "CONNECTIONS", 2)
    async with serving(Process()) as ops:
        address = ops.url.removeprefix("http://").split(":")
        held = [await asyncio.open_connection(*address) for _ in range(2)]
        answer = await said(ops, TOP + b"\r\n")
        for _, writer in held:
            writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\ncache-control: no-store\r\n" in answer
