"""What a flapping target does to the others: python -m bench.flapping [--quick]

Events arrive at a fixed rate for three targets that acknowledge at once, and others for a fourth
one: it is well all the time; it acknowledges for four seconds and hangs for four, again and again;
it does so and has a breaker. The figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.arrivals import Latency, arrivals
from bench.compare import WRK_CORE, beside_a_bad_one, machine

#: Events a second to the others, and to the flapping target.
RATE, FLAPPING_RATE = 300.0, 100.0

#: How long the target is well, and then hangs, in seconds; and how long an attempt waits for it.
HALF, TIMEOUT = 4.0, "1s"

BREAKER = {"failures": "50%", "of_at_least": 20, "within": "2s", "pause": "500ms"}

_ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"code":"000"}'


class Flapping:
    """The target, on a loop and a thread of its own."""

    def __init__(self) -> None:
        self.flaps = False
        #: Requests that came, and those of them that came while it hung.
        self.came = self.in_vain = 0
        self._loop = asyncio.new_event_loop()
        ready = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = ready.result()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def hangs(self) -> bool:
        return self.flaps and time.monotonic() % (2 * HALF) >= HALF

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(size)
                self.came += 1
                self.in_vain += self.hangs
                if not self.hangs:
                    writer.write(_ANSWER)
        writer.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.flapping", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    args = parser.parse_args()
    rounds, seconds = (1, 8.0) if args.quick else (3, 16.0)
    print(machine(), file=sys.stderr)
    columns = ("others p50 ms", "p99 ms", "failures", "its events: 000", "failed", "sent in vain")
    print("| the fourth target |", " | ".join(columns), "|")
    print("| --- |", "--- |" * len(columns))
    failed = False
    for title, flaps, policy in (
        ("is well", False, {}),
        ("flaps", True, {}),
        ("flaps, with a breaker", True, {"breaker": BREAKER}),
    ):
        found = [_round(flaps, policy, seconds) for _ in range(rounds)]
        figures = [statistics.median(each) for each in zip(*found, strict=True)]
        print(f"| {title} | {figures[0]:.2f} | {figures[1]:.2f} |", end=" ")
        print(" | ".join(f"{figure:.0f}" for figure in figures[2:]), "|", flush=True)
        failed = failed or figures[2] > 0
    return int(failed)


def _round(flaps: bool, policy: dict[str, Any], seconds: float) -> tuple[float, ...]:
    target = Flapping()
    bad = {"url": f"http://127.0.0.1:{target.port}/callback", "timeout": TIMEOUT, **policy}
    with beside_a_bad_one(bad, "f.*") as url:
        target.flaps = flaps
        with ThreadPoolExecutor(2) as both:
            others = both.submit(arrivals, url, RATE, seconds, WRK_CORE)
            its = both.submit(arrivals, url, FLAPPING_RATE, seconds, WRK_CORE, "f.l.a.p")
            latency: Latency = others.result()
            its_own: Latency = its.result()
    return (
        *(latency.median, latency.p99, latency.failures),
        *(its_own.events, its_own.failures, target.in_vain),
    )


if __name__ == "__main__":
    raise SystemExit(main())
