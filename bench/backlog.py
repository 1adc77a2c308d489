"""A backlog that is sent beside live events: python -m bench.backlog [--store postgresql] [KIND…]

In each round the router first has live events only. Then it starts with a full store while the
target is away; the target returns, and live events go on at the same rate until some time after the
backlog's end. So each round has its own figures without a backlog. Figures are medians over the
rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any
from unittest.mock import patch

from bench.arrivals import percentile
from bench.caller import Caller, event
from bench.compare import CORE, WRK_CORE, machine
from bench.processes import Scene, Started, free_port, precedence, start_targets
from router.config.settings import parse_store
from router.model.event import Event, OutboundEvent, digest_of
from router.store.opening import open_store
from router.store.protocol import DeliveryRow, Record, Stage, State, StoreLimits
from tests.support import postgres

#: Seconds of live events before and after.
PHASE = 6.0

#: The longest that a request of EBaaS takes, in seconds.
REPLY_WITHIN = 5.0

#: The state of the deliveries, and between how many seconds EBaaS's next requests and the queue's
#: next attempts come. Half of the last kind is so near EBaaS's request that it is left to that.
KINDS = {
    "queued": (State.QUEUED, (3600.0, 3600.0)),
    "awaiting": (State.AWAITING, (3600.0, 3600.0)),
    "expected": (State.AWAITING, (-2 * REPLY_WITHIN, 2 * REPLY_WITHIN)),
}

#: How many events the store gets at a time while it is filled.
_STEP = 1_000

_LIMITS = StoreLimits(1 << 40, share=1.0)


@dataclass
class Round:
    """One round: latencies in milliseconds, and what the backlog took."""

    before: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    failures: int = 0
    #: Seconds from the target's return until nothing waited.
    seconds: float = 0.0
    #: Resident megabytes of the router while the backlog was sent, and right after it.
    memory: list[float] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="which; all by default")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--count", type=int, default=50_000, help="of waiting deliveries")
    parser.add_argument("--rate", type=int, default=80, help="of live events, per second")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(machine(), file=sys.stderr)
    print("| | p50 / p95 before, ms | beside | after | p95 is | seconds | MB: 0 s, 5 s, end |")
    print("| --- " * 7 + "|")
    rounds: dict[str, list[Round]] = {kind: [] for kind in args.kinds or KINDS}
    for _ in range(args.rounds):
        for kind in rounds:
            rounds[kind].append(asyncio.run(measure(kind, args.store, args.count, args.rate)))
            print(_row(kind, rounds[kind][-1:]), file=sys.stderr, flush=True)
    for kind, of in rounds.items():
        print(_row(kind, of))
    return 1 if any(each.failures for of in rounds.values() for each in of) else 0


async def measure(kind: str, store: str, count: int, rate: int) -> Round:
    """Measure one round with a new store."""
    with precedence(), tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, there = Path(name), str(Path(name) / "store.db")
        if store == "postgresql":
            server = stack.enter_context(postgres.running())
            there = stack.enter_context(server.database()).dsn
            stack.enter_context(patch.dict(os.environ, {"PGPASSWORD": postgres.PASSWORD}))
        scene, it = Scene(folder, [free_port()], 1), Round()
        side = "optional" if KINDS[kind][0] is State.QUEUED else "required"
        (folder / "routes.yaml").write_text(json.dumps(_routes(scene.urls[0], side)))
        target, router = start_targets(scene, WRK_CORE), _Router(folder, there)
        try:
            await _live(router, rate, it, it.before, PHASE)
            router.stop()
            target.stop()
            await _fill(there, kind, count)
            router = _Router(folder, there)
            target, began = start_targets(scene, WRK_CORE), time.monotonic()
            await _live(router, rate, it, it.beside, None)
            it.seconds = time.monotonic() - began
            await _live(router, rate, it, it.after, PHASE)
        finally:
            router.stop()
            target.stop()
        return it


def _routes(url: str, side: str) -> dict[str, object]:
    routes = [
        {"name": "live", "match": "a.gs.live.*", "required": ["t"]},
        {"name": "backlog", "match": "a.gs.cert.*", side: ["t"]},
    ]
    ebaas = {"reply_within": f"{REPLY_WITHIN:g}s"}
    return {"version": 1, "ebaas": ebaas, "targets": {"t": {"url": url}}, "routes": routes}


async def _fill(store: str, kind: str, count: int) -> None:
    """Leave so many deliveries waiting, like a router that was stopped."""
    state, between = KINDS[kind]
    stage = Stage.OPEN if state is State.AWAITING else Stage.CLOSED
    opened, random = await open_store(parse_store(store), _LIMITS), Random(1)
    now = opened.now()

    def add(number: int) -> Coroutine[Any, Any, None]:
        body = event("cert", f"backlog-{number}")
        due, later = now + random.uniform(*between), now + 86400.0
        record = Record(f"backlog-{number}", stage, now, 1, now, due, later, later)
        letter = OutboundEvent(
            Event("a", "gs", "cert", "1", "a.gs.cert.1", body), digest_of(body), "backlog"
        )
        row = DeliveryRow("t", state, "timeout", due if state is State.QUEUED else 0.0)
        return opened.add(record, letter, [row], 60.0)

    for first in range(0, count, _STEP):
        await asyncio.gather(*map(add, range(first, min(first + _STEP, count))))
    await opened.close()


class _Router(Started):
    """`serve` with all defaults, and its own count of what waits."""

    def __init__(self, folder: Path, store: str) -> None:
        self.port, self._ops_port = free_port(), free_port()
        command = [
            *(sys.executable, "-m", "router", "serve", "--port", str(self.port)),
            *("--config", str(folder / "routes.yaml"), "--log-format", "json"),
            *("--ops-port", str(self._ops_port), "--archive", "none"),
        ]
        super().__init__("router", command, {"EBAAS_ROUTER_STORE": store}, self.port, CORE)

    def waiting(self) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ops_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith("ebaas_router_unsettled_deliveries{") and 'state="dead"' not in line
        )


async def _live(
    router: _Router, rate: int, it: Round, latencies: list[float], seconds: float | None
) -> None:
    """Send live events for so long, or until no deliveries wait any more. Each latency is counted
    from the time at which its event was due."""
    loop, callers, posts = asyncio.get_running_loop(), list[Caller](), set[asyncio.Task[None]]()
    began = due = loop.time()

    async def post(due: float) -> None:
        caller = callers.pop() if callers else Caller(router.port)
        code = await caller.post(event("live", os.urandom(8).hex()))
        it.failures += code != "000"
        latencies.append((loop.time() - due) * 1000)
        callers.append(caller)

    async def is_over() -> bool:
        if seconds is not None:
            return loop.time() - began > seconds
        it.memory.append(router.memory / 1e6)
        await asyncio.sleep(1.0)
        return await asyncio.to_thread(router.waiting) == 0

    over = asyncio.create_task(is_over())
    while not (over.done() and over.result()):
        if over.done():
            over = asyncio.create_task(is_over())
        due += 1 / rate
        await asyncio.sleep(due - loop.time())
        posts.add(task := asyncio.create_task(post(due)))
        task.add_done_callback(posts.discard)
    await asyncio.gather(*posts)
    for caller in callers:
        caller.close()


def _row(kind: str, rounds: list[Round]) -> str:
    def both(name: str) -> str:
        ordered = [sorted(getattr(each, name)) for each in rounds]
        return " / ".join(
            f"{median(percentile(part, each) for each in ordered):.1f}" for part in (0.5, 0.95)
        )

    def p95(latencies: list[float]) -> float:
        return percentile(0.95, sorted(latencies))

    times = median(2 * p95(it.beside) / (p95(it.before) + p95(it.after)) for it in rounds)
    # Buffers and pools fill up within the first seconds.
    memory = [median(it.memory[min(at, len(it.memory) - 1)] for it in rounds) for at in (0, 5, -1)]
    seconds = median(it.seconds for it in rounds)
    cells = (
        kind,
        *map(both, ("before", "beside", "after")),
        f"{times:.2f} times",
        f"{seconds:.0f}",
    )
    return f"| {' | '.join(cells)} | {', '.join(f'{each:.0f}' for each in memory)} |"


if __name__ == "__main__":
    raise SystemExit(main())
