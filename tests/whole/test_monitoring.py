"""The configuration in deploy/ for Prometheus, Alertmanager and Grafana watches a real router."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from signal import SIGHUP
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from scripts.dashboard import DASHBOARD
from tests.support.command import PATIENCE, ROOT, shipped
from tests.support.house import event
from tests.support.serving import Serving, Target, always, body, target
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import wait_until

#: The folder of their programs; `make monitoring` sets it.
PROGRAMS = os.environ.get("MONITORING", "")

_LISTENING = re.compile(r'msg="Listening on" address=(127\.0\.0\.1:\d+)')


def program(name: str, *arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(
        [Path(PROGRAMS) / name, *arguments], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


@contextmanager
def started(name: str, folder: Path, *options: str) -> Iterator[str]:
    """Run a program on a free port until the block ends; yields its address once it is ready."""
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
        """Return the series of an expression, without those whose value is NaN."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return [series for series in found if series["value"][1] != "NaN"]

    def unanswered(self, queries: Sequence[str]) -> list[str]:
        """Return the queries without a result. They are repeated for a while, because a late scrape
        leaves a gap."""
        left, deadline = list(queries), time.monotonic() + PATIENCE
        while left and time.monotonic() < deadline:
            left = [query for query in left if not self.query(query)]
            time.sleep(0.05 if left else 0)
        return left

    def scraped(self) -> None:
        """Return once two more scrapes have succeeded."""
        for _ in range(2):
            wait_until(partial(self._is_scraped_since, time.time()))

    def _is_scraped_since(self, moment: float) -> bool:
        # `up` itself, because the timestamp of an expression is the time of the query.
        found = self.query("timestamp(up) and up == 1")
        return any(float(each["value"][1]) > moment for each in found)


pytestmark = pytest.mark.skipif(not PROGRAMS, reason="make monitoring")

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus/rules.yml"
ALERTMANAGER = DEPLOY / "alertmanager/alertmanager.yml"

#: Prometheus's intervals, which are short because tests wait for them.
SOON = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}

_PROMQL = re.compile(r"```promql\n(.*?)```", re.DOTALL)

_names = count()


class Watched(NamedTuple):
    prometheus: Prometheus
    #: The page that Prometheus scrapes.
    metrics: str


def routes_of(well: Target, bad: Target) -> dict[str, Any]:
    breaker = {"of_at_least": 5, "pause": "1h", "refusals": "count"}
    targets = {
        "ledger": {"url": well.url, "owner": "team ledger"},
        "stock": {"url": bad.url, "breaker": breaker},
        "mail": {"url": bad.url, "owner": "team audit"},
        "news": {"url": bad.url, "paused": True},
    }
    whole = {"name": "whole", "match": "a.*", "required": ["ledger", "stock"]}
    aside = {"name": "aside", "match": "b.*", "required": ["ledger"], "optional": ["mail", "news"]}
    queue = {"retries": 1, "waits": ["50ms"]}
    return {"version": 1, "queue": queue, "targets": targets, "routes": [whole, aside]}


def load(router: Serving, prometheus: Prometheus) -> None:
    """Some events of each kind, again and again, so that what grows is seen to grow."""
    for _ in range(4):
        for _ in range(6):
            failing = body(f"event {next(_names)}")
            router.ask("POST", "/callback", failing)
            router.ask("POST", "/callback", event(event_source="b", event_key=f"b.{next(_names)}"))
        router.ask("POST", "/callback", failing)
        router.ask("POST", "/callback", b"[]")
        router.ask("POST", "/callback", event(event_key="nobody"))
        prometheus.scraped()


def prometheus_config(folder: Path, ops: int) -> None:
    """The shipped one, but for addresses and how often it looks."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    [scrape] = config["scrape_configs"]
    del config["alerting"]
    config["global"] = SOON
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{ops}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES, folder)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder, ops = tmp_path_factory.mktemp("watched"), free_port()
    with ExitStack() as stack:
        well, bad = (stack.enter_context(target(always(code))) for code in ("000", "700"))
        (folder / "routes.yaml").write_text(yaml.safe_dump(routes_of(well, bad)))
        options = ("--ops-port", str(ops))
        router = Serving(folder / "routes.yaml", folder / "store.db", options, {})
        stack.callback(router.close)

        prometheus_config(folder, ops)
        where = ("--config.file=prometheus.yml", "--storage.tsdb.path=data")
        prometheus = Prometheus(stack.enter_context(started("prometheus", folder, *where)))
        prometheus.scraped()
        load(router, prometheus)
        (folder / "routes.yaml").write_text("version: 1")
        router.process.send_signal(SIGHUP)
        router.wait_for(lambda: router.lines("reload"))
        prometheus.scraped()
        metrics = httpx.get(f"http://127.0.0.1:{ops}/metrics", **PLAIN).text
        yield Watched(prometheus, metrics)


def asked_by_pages() -> list[str]:
    pages = (page.read_text("utf-8") for page in shipped("docs", "*.md"))
    blocks = [block for page in pages for block in _PROMQL.findall(page)]
    return [query for block in blocks for query in block.strip().split("\n\n")]


def asked_by_panels() -> list[str]:
    return [query["expr"] for panel in DASHBOARD["panels"] for query in panel.get("targets", [])]


def filled_in(query: str, owner: str = ".*") -> str:
    """The query as Grafana sends it; `.*` stands for all."""
    chosen = {"job": "ebaas-router", "owner": owner, "target": ".*", "__rate_interval": "1m"}
    return re.sub(r"\$(\w+)", lambda variable: chosen[variable[1]], query)


def test_what_the_pages_ask_has_an_answer(watched: Watched) -> None:
    """Every query of docs/ returns series of numbers."""
    assert len(asked_by_pages()) > 20
    assert watched.prometheus.unanswered(asked_by_pages()) == []


def test_what_the_dashboard_asks_has_an_answer(watched: Watched) -> None:
    """Every query of a panel returns series of numbers."""
    queries = [filled_in(query) for query in asked_by_panels()]
    assert len(queries) > 30
    assert watched.prometheus.unanswered(queries) == []


def test_the_dashboard_shows_the_targets_of_the_chosen_owner(watched: Watched) -> None:
    """The dashboard shows no other owner's targets."""
    queries = [query for query in asked_by_panels() if "$owner" in query]
    found = [
        series["metric"].get("owner", series["metric"].get("target"))
        for query in queries
        for series in watched.prometheus.query(filled_in(query, owner="team audit"))
    ]
    assert found
    assert set(found) <= {"team audit", "mail"}


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["severity=ticket", 'owner="team certificates"'], "team certificates"),
        (["severity=page", 'owner="team ledger"'], "on duty,team ledger"),
        (["severity=page"], "on duty,operations"),
        (["severity=ticket"], "operations"),
    ],
)
def test_an_alert_goes_to_whom_it_concerns(labels: list[str], receivers: str) -> None:
    """The target's owner, else operations; a page also goes to the person on duty."""
    routes_test = ("config", "routes", "test", f"--config.file={ALERTMANAGER}")
    assert program("amtool", *routes_test, *labels).strip() == receivers


def test_what_is_shipped_is_sound(watched: Watched) -> None:
    """The vendors' checks pass, and each alert fires exactly when it should."""
    program("amtool", "check-config", ALERTMANAGER)
    program("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
    program("promtool", "check", "metrics", stdin=watched.metrics.encode())
    program("promtool", "test", "rules", *sorted(RULES.parent.glob("*.test.yml")))
