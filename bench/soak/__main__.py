"""A long run of mixed load against a real `serve`: python -m bench.soak --minutes 30

Each round of load is followed by a rest without connections or requests in flight, after which the
router's resources are measured: anything left then stays. The exit code is 1 if something grows
(samples.Bound), or if a caller got a wrong reply.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import uvloop

from bench.processes import free_port
from bench.soak import targets
from bench.soak.callers import Callers, status
from bench.soak.configuration import Configuration
from bench.soak.samples import Growth, Meter, Sample, growths
from router.net.listening import listen
from router.process.server import Server
from router.transport.engine import KEEP_ALIVE
from tests.support.servers import served

PATIENCE = 30.0

#: Errors that a soak expects: refused edits, and events that nobody sends again after a hang-up.
EXPECTED = (b"reload", b"dead_letter")

#: Seconds of a rest. Longer than late attempts, the queue's interval, and idle connections to
#: targets, so that anything still open is never closed.
REST = KEEP_ALIVE + 1.0

#: Bytes of the store's files for each event, and in addition. Events are kept for an hour.
STORE_EACH, STORE_BESIDES = 4096, 8_000_000


class Router:
    """A `serve` process, with counts of its log lines by level."""

    def __init__(self, folder: Path, configuration: Configuration) -> None:
        self.store = folder / "store" / "store.db"
        self.port, self.ops_port = free_port(), free_port()
        self.levels: Counter[str] = Counter()
        #: Log lines that a soak must not have.
        self.faults: list[bytes] = []
        self._configuration = configuration

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "router", "serve", "--log-format", "json"),
            *("--config", str(self._configuration.path), "--store", str(self.store)),
            *("--port", str(self.port), "--ops-port", str(self.ops_port)),
            stdout=asyncio.subprocess.PIPE,
            limit=1024 * 1024,
        )
        self._reading = asyncio.create_task(self._read())
        async with asyncio.timeout(PATIENCE):
            while await status(self.port, "/readyz") != "200":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            level = line.partition(b'"level":"')[2].partition(b'"')[0].decode()
            self.levels[level] += 1
            happening = line.partition(b'"happening":"')[2].partition(b'"')[0]
            if level not in ("info", "warning") and happening not in EXPECTED:
                self.faults.append(line)

    async def stop(self) -> int:
        """Stop the router and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reading
        return code


class Run:
    """One soak from start to verdict."""

    def __init__(self, seconds: float, pace: float, rate: float) -> None:
        self._seconds = seconds
        self._pace = pace
        self._rate = rate
        self._samples: list[Sample] = []

    async def run(self, folder: Path) -> bool:
        """Return whether the soak has passed."""
        endpoints = targets.by_path(
            {
                "well": targets.well(),
                "slow": targets.slow(),
                "mostly": targets.mostly(),
                "flapping": targets.flapping(),
            }
        )
        # The stand-in would log each answer that it breaks off, as ordered.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        async with served(Server(endpoints, listen("127.0.0.1", 0))) as serving:
            configuration = Configuration(folder / "routes.yaml", serving.url)
            router = Router(folder, configuration)
            await router.start()
            callers = Callers(router.port, router.ops_port, router.process.pid, configuration)
            try:
                await self._soak(router, callers)
                code = await router.stop()
            finally:
                if router.process.returncode is None:
                    router.process.kill()
        return self._tell(router, callers, code)

    async def _soak(self, router: Router, callers: Callers) -> None:
        meter = Meter(router.process.pid, router.store, router.ops_port)
        began = time.monotonic()
        print(f"{'minutes':>8}{'MB':>8}{'files':>7}{'threads':>9}{'tasks':>7}{'store MB':>10}")
        while time.monotonic() - began < self._seconds:
            await callers.round(self._pace, self._rate)
            await asyncio.sleep(REST)
            sample = await meter.sample(time.monotonic() - began)
            self._samples.append(sample)
            tasks = "-" if sample.tasks is None else str(sample.tasks)
            print(
                f"{sample.at / 60:>8.1f}{sample.memory / 1e6:>8.1f}{sample.files:>7}"
                f"{sample.threads:>9}{tasks:>7}{sample.store / 1e6:>10.2f}",
                flush=True,
            )

    # The verdict.

    def _tell(self, router: Router, callers: Callers, code: int) -> bool:
        print()
        self._tell_replies(callers)
        print()
        grown = growths(self._samples)
        self._tell_growth(grown)
        troubles = [
            *(f"{each.name} grows" for each in grown if each.grows),
            *(f"{kind}: {got}, {n} times" for (kind, got), n in callers.wrong.items()),
            *(f"logged: {line.decode()[:300].rstrip()}" for line in router.faults[:5]),
            *self._of_store(router),
        ]
        if code != 0:
            troubles.append(f"exit code {code}")
        print("\nbad: " + "; ".join(troubles) if troubles else "\ngood: flat, every reply right")
        return not troubles

    def _tell_replies(self, callers: Callers) -> None:
        kinds = sorted({kind for kind, _ in callers.results})
        for kind in kinds:
            got = {code: n for (each, code), n in callers.results.items() if each == kind}
            print(f"{kind:<12} {', '.join(f'{code} {n}' for code, n in sorted(got.items()))}")

    def _tell_growth(self, grown: list[Growth]) -> None:
        first, last = self._samples[0], self._samples[-1]
        print(f"{'last two thirds':<16}{'median':>12}{'most':>12}{'growth':>12}")
        for each in grown:
            unit, per = (" MB", 1e6) if each.name == "memory" else ("", 1)
            print(
                f"{each.name + unit:<16}{each.median / per:>12.1f}{each.most / per:>12.1f}"
                f"{each.growth / per:>+12.2f}{'  grows' if each.grows else ''}"
            )
        if last.at > first.at:
            share = (last.cpu - first.cpu) / (last.at - first.at)
            print(f"{'CPU of a core':<16}{share:>12.1%}")

    def _of_store(self, router: Router) -> list[str]:
        with closing(sqlite3.connect(router.store)) as connection:
            (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
            states = connection.execute(
                "SELECT state, count(*) FROM deliveries GROUP BY state"
            ).fetchall()
        size = self._samples[-1].store
        held = ", ".join(f"{state} {count}" for state, count in states)
        print(f"the store has {events} events in {size / 1e6:.1f} MB; deliveries: {held}")
        if size > STORE_EACH * events + STORE_BESIDES:
            return [f"the store takes {size} bytes for {events} events"]
        return []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--round", type=float, default=10.0, help="seconds between two rests")
    parser.add_argument("--rate", type=float, default=15.0, help="honest events a second")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        run = Run(args.minutes * 60, args.round, args.rate)
        return 0 if runner.run(run.run(Path(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
