"""Print what Prometheus gets from an ops port, a real one: python -m scripts.scrape"""

from __future__ import annotations

import asyncio
import sys
import time
import urllib.request

from router import config
from router.config.reload import Standing
from router.config.settings import Settings
from router.model.event import Reason
from router.ops.answers import Alone, Answers, Topic
from router.ops.port import api_parts, ops_app
from router.ops.report import Report, report_of
from router.ops.tokens import OpsTokens
from router.process.server import Server, listen
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics


def counted() -> Metrics:
    """Some of everything has happened to these three targets."""
    metrics = Metrics()
    metrics.adopt(("certificates", "ledger", "audit"))
    metrics.configuration = {"hash": "72b897a5d1ce"}
    metrics.event("000", 0.012)
    metrics.loop_lag.observe(0.3)
    for at, reason in enumerate(Reason):
        metrics.of("ledger").attempt(reason, at / 2, time.time())
    return metrics


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        text: str = response.read().decode()
        return text


async def scrape() -> str:
    metrics = counted()
    shipped = config.load(Settings().config, {}, None)
    standing = Standing(shipped, since=1.0, tried=1.0)

    def report(_: object) -> Report:
        return report_of(metrics, standing, ready=True, store=("none", ""), lag=0.0)

    log = Log()
    processes = Alone(Answers({Topic.REPORT: report}, {}, log))
    parts = api_parts(Settings(store=None), processes, OpsTokens(), [], log)
    server = Server(ops_app(parts, log), listen("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve())
    await server.up()
    try:
        return await asyncio.to_thread(fetch, server.url + "/metrics")
    finally:
        server.stop()
        await serving


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(scrape()))
