"""The cost of each part of an event's path: python -m bench.profile

The router runs in this process like in `serve`, with its store, beside real targets and wrk. A
timer of CPU time interrupts it; the tick counts for the innermost function on the path. So the
shares are a sample, and the sum is measured. C code, such as a system call, counts for its caller.
Compiled code has no frames, so a compiled router only has the sum. OTEL_EXPORTER_OTLP_ENDPOINT and
others turn traces on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from bench.compare import CONNECTIONS, CORE, ROUTES, TARGETS, WRK_CORE, machine
from bench.processes import Scene, free_port, start_targets
from bench.wrk import wrk
from router.app import App
from router.config import loading
from router.config.settings import Settings, parse_archive
from router.net.listening import listen
from router.process import running
from router.process.server import Server
from router.telemetry.log import Log
from router.telemetry.tracing import tracing_by

#: Seconds of CPU time between two ticks.
_TICK = 0.001

#: The parts of the path: a place in the code belongs to the first that fits. Code in none of
#: them counts for its nearest caller in one of them.
HOPS: Mapping[str, tuple[str, ...]] = {
    "traces": ("router/delivery/traced", "router/telemetry/spans", "opentelemetry/"),
    "receive and reply": (
        "router/web/", "router/net/http/", "router/net/access", "router/process/", "router/app",
        "router/contract/replies", "starlette/",
    ),
    "read: JSON, schema": ("router/contract/",),
    "match": ("router/routing/",),
    "remember": ("router/delivery/memory", "router/delivery/rules", "router/store/"),
    "forward: decide": ("router/delivery/forwarder",),
    "send: judge": ("router/delivery/target/",),
    "send: HTTP": ("router/transport/", "router/net/loops"),
    "tell: log and count": ("router/delivery/observer", "router/telemetry/", "router/archive/"),
    "event loop": ("asyncio/",),
}  # fmt: skip


class Sample:
    """Counts ticks by the part of the code that was running."""

    def __init__(self) -> None:
        self.ticks: Counter[str] = Counter()
        self._known: dict[str, str | None] = {}

    def take(self, _: int, frame: FrameType | None) -> None:
        while frame is not None:
            hop = self._hop(frame.f_code.co_filename)
            if hop is not None:
                self.ticks[hop] += 1
                return
            frame = frame.f_back
        self.ticks["else"] += 1

    def _hop(self, file: str) -> str | None:
        if file not in self._known:
            fits = (hop for hop, parts in HOPS.items() if any(part in file for part in parts))
            self._known[file] = next(fits, None)
        return self._known[file]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--archive", choices=("auto", "none"), default="auto")
    args = parser.parse_args()
    print(machine(), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), [free_port() for _ in range(TARGETS)], ROUTES)
        scene.write()
        targets = start_targets(scene, WRK_CORE)
        try:
            os.sched_setaffinity(0, {CORE})
            print(profile(scene, args.seconds, args.archive))
        finally:
            targets.stop()
    return 0


def profile(scene: Scene, seconds: int, archive: str) -> str:
    """Return a Markdown table of CPU µs per event by part."""
    loaded = loading.load(scene.folder / "routes.yaml", {}, None)
    settings = Settings(store=scene.folder / "profile.db", archive=parse_archive(archive))
    with (scene.folder / "log").open("w") as stream:
        app = App(settings, loaded, Log(stream, "json"), tracing=tracing_by(os.environ))
        serving = Server(app.entry, listen("127.0.0.1", 0), lifespan=app.lifespan)
        sample, figures = Sample(), {}

        async def drive() -> None:
            await asyncio.to_thread(wrk, f"{serving.url}/callback", CONNECTIONS, 1, WRK_CORE)
            signal.signal(signal.SIGPROF, sample.take)
            signal.setitimer(signal.ITIMER_PROF, _TICK, _TICK)
            before = _cpu()
            load = await asyncio.to_thread(
                wrk, f"{serving.url}/callback", CONNECTIONS, seconds, WRK_CORE
            )
            figures["us"] = (_cpu() - before) / load.events * 1e6
            signal.setitimer(signal.ITIMER_PROF, 0)
            serving.stop()

        running.run(serving, then=drive)
    return _table(sample.ticks, figures["us"])


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _table(ticks: Counter[str], total: float) -> str:
    everything = ticks.total()
    rows = (f"| {hop} | {ticks[hop] / everything * total:.1f} |" for hop in (*HOPS, "else"))
    return "\n".join(
        ["| hop | CPU µs per event |", "| --- | --- |", *rows, f"| all | {total:.1f} |"]
    )


if __name__ == "__main__":
    raise SystemExit(main())
