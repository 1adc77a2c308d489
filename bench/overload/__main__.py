"""How the router does at five times its capacity: python -m bench.overload

A real `serve` has room for `--room` callbacks, and its targets take `--delay`: so its capacity is
room / delay, set by its limits and not by this machine. A crowd, a process of its own, comes at
that rate, then at five times that rate, and then at half of it. It ends with 1 where at five times
its capacity the router answers less than 80 % of its best rate rightly and in time, where a
refusal takes long or is none, or where it does not recover.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.overload.crowd import TARGETS, Came
from bench.processes import free_port
from bench.soak.callers import status

PATIENCE = 30.0

#: In time is within what routes.yaml promises the caller, in seconds.
REPLY_WITHIN = 3.0

#: Times the capacity that comes, and for how many seconds.
STEPS = ((1.0, 8.0), (5.0, 10.0), (0.5, 8.0))

#: What it must do: this part of its best rate; refuse so quickly (99 of 100, in seconds: no later
#: than EBaaS's first retry); and be itself again so long after the burst, in seconds.
SHARE, QUICKLY, RECOVERY = 0.8, 1.0, 3.0

#: Seconds of a step that are not counted: until it is as the step is.
SETTLING = 1.0


class Scene(ExitStack):
    """The router and its targets, each a process of its own."""

    def __init__(self, room: int, delay: float) -> None:
        super().__init__()
        folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.port = free_port()
        target = free_port()
        config = folder / "routes.yaml"
        config.write_text(json.dumps(_table(f"http://127.0.0.1:{target}")))
        self._start("receive", "--port", f"{target}", "--delay", f"{round(delay * 1000)}ms")
        self._start(
            *("serve", "--config", f"{config}", "--store", f"{folder / 'store.db'}"),
            *("--port", f"{self.port}", "--ops-port", "0", "--max-requests", f"{room}"),
        )
        asyncio.run(_await_answer(target, "/", "405"))
        asyncio.run(_await_answer(self.port, "/readyz", "200"))

    def _start(self, *arguments: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "router", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.callback(process.wait, PATIENCE)
        self.callback(process.terminate)

    def crowd(self, capacity: float) -> list[Came]:
        steps = [f"{times * capacity}x{seconds}" for times, seconds in STEPS]
        come = [sys.executable, "-m", "bench.overload.crowd", f"{self.port}", *steps]
        done = subprocess.run(come, stdout=subprocess.PIPE, check=True)
        return [Came(*each) for each in json.loads(done.stdout)]


def _table(url: str) -> dict[str, Any]:
    """Enough targets that each holds less than its share of the room."""
    names = [f"t{number}" for number in range(TARGETS)]
    return {
        "version": 1,
        "ebaas": {"reply_within": f"{REPLY_WITHIN:g}s"},
        "targets": {n: {"url": f"{url}/{n}", "timeout": "2s"} for n in names},
        "routes": [{"name": n, "match": f"a.gs.{n}.*", "required": [n]} for n in names],
    }


async def _await_answer(port: int, path: str, right: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await status(port, path) != right:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


class Step:
    """What became of the events of one step, once it is settled."""

    def __init__(self, came: Sequence[Came], begin: float, seconds: float) -> None:
        first, last = begin + SETTLING, begin + seconds
        self.came = [each for each in came if first <= each.due < last]
        self._seconds = last - first
        self.good = [each.seconds for each in self.came if _is_good(each)]
        self.refusals = [each.seconds for each in self.came if each.code == "503"]

    @property
    def rate(self) -> float:
        """Events answered rightly and in time, for each second."""
        return len(self.good) / self._seconds

    @property
    def others(self) -> Counter[str]:
        """What is neither `000` in time nor a refusal."""
        others = (each for each in self.came if not _is_good(each) and each.code != "503")
        return Counter("late" if each.code == "000" else each.code for each in others)

    def row(self, title: str) -> str:
        others = ", ".join(f"{code} {count}" for code, count in self.others.items()) or "-"
        return (
            f"{title:<10}{len(self.came) / self._seconds:>9.0f}{self.rate:>9.0f}"
            f"{_ms(self.good, 0.5):>9}{_ms(self.good, 0.99):>9}{len(self.refusals):>9}"
            f"{_ms(self.refusals, 0.5):>9}{_ms(self.refusals, 0.99):>9}   {others}"
        )


HEAD = (
    f"{'':<10}{'come/s':>9}{'000/s':>9}{'ms':>9}{'p99 ms':>9}{'503':>9}{'ms':>9}{'p99 ms':>9}"
    "   others"
)


def _is_good(came: Came) -> bool:
    return came.code == "000" and came.seconds <= REPLY_WITHIN


def _at(share: float, values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * share)] if values else 0.0


def _ms(values: Sequence[float], share: float) -> str:
    return f"{_at(share, values) * 1000:.0f}" if values else "-"


def steps_of(came: Sequence[Came]) -> list[Step]:
    found, begin = [], 0.0
    for _, seconds in STEPS:
        found.append(Step(came, begin, seconds))
        begin += seconds
    return found


def recovery(came: Sequence[Came]) -> float:
    """Seconds from the end of the burst until a whole second begins in which all is answered."""
    over = STEPS[0][1] + STEPS[1][1]
    bad = sorted(each.due - over for each in came if each.due >= over and not _is_good(each))
    recovered = 0.0
    for at in bad:
        if at - recovered > 1.0:
            break
        recovered = at
    return recovered


def troubles_of(one: Step, five: Step, back: float) -> list[str]:
    checks: dict[str, Callable[[], bool]] = {
        f"less than {SHARE:.0%} of its best rate": lambda: five.rate < SHARE * one.rate,
        "nobody was refused": lambda: not five.refusals,
        f"a refusal takes more than {QUICKLY:g} s": lambda: _at(0.99, five.refusals) > QUICKLY,
        "other replies than 000 and 503": lambda: bool(five.others or one.others),
        f"not recovered {RECOVERY:g} s after the burst": lambda: back > RECOVERY,
    }
    return [trouble for trouble, is_so in checks.items() if is_so()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--room", type=int, default=64, help="callbacks in flight (default 64)")
    parser.add_argument("--delay", type=float, default=1.0, help="of targets, in seconds")
    args = parser.parse_args()
    capacity = args.room / args.delay
    print(f"room for {args.room}, targets take {args.delay:g} s: {capacity:.0f} events a second")
    with Scene(args.room, args.delay) as scene:
        came = scene.crowd(capacity)
    one, five, half = steps_of(came)
    back = recovery(came)
    print(HEAD)
    for title, step in (("capacity", one), ("5 times", five), ("half", half)):
        print(step.row(title))
    print(f"at 5 times {five.rate / one.rate:.0%} of its rate; recovered after {back:.2f} s")
    troubles = troubles_of(one, five, back)
    print("bad: " + "; ".join(troubles) if troubles else "good")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
