"""python -m tests.chaos --seed 1 --runs 20 --seconds 12: play runs and judge them."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.plan import Plan
from tests.chaos.process import Stuck
from tests.chaos.report import figures, story
from tests.chaos.run import play
from tests.chaos.store import weather
from tests.chaos.verdict import Verdict, judge

#: The most broken promises of a run whose story is printed.
_SHOWN = 3

#: A file system in memory, so that a busy disk does not disturb a strict run.
MEMORY = Path("/dev/shm")


def main() -> int:
    """Return 0 if every promise has held, 1 with the story of a broken one."""
    args = _arguments()
    if args.strict and MEMORY.is_dir():
        tempfile.tempdir = str(MEMORY)
    broken = 0
    for seed in range(args.seed, args.seed + args.runs):
        database = args.store == "postgresql"
        nodes = 2 if database else 1
        broken += not _holds(
            Plan(seed, args.seconds, nodes, database, args.pace, args.engine, args.strict)
        )
    print(f"{broken} of {args.runs} runs broke a promise" if broken else "every promise was kept")
    return 1 if broken else 0


def _holds(plan: Plan) -> bool:
    with tempfile.TemporaryDirectory() as folder, weather(plan, Path(folder)) as above:
        try:
            verdict = judge(asyncio.run(play(plan, Path(folder), above)))
        except Stuck as stuck:
            print(f"BROKEN  seed {plan.seed}: {stuck}", flush=True)
            return False
    print(f"seed {plan.seed}: {figures(verdict)}", flush=True)
    if plan.strict and verdict.played.history.is_disturbed:
        print("        the machine was too busy: duplicates with a cause are allowed")
    complain(verdict)
    return not verdict.broken


def complain(verdict: Verdict) -> None:
    """Print the broken promises, and the story of the first ones."""
    for broken in verdict.broken:
        about = "" if broken.body is None else f"event {broken.body}: "
        print(f"BROKEN  {about}{broken.what}")
    bodies = dict.fromkeys(b.body for b in verdict.broken if b.body is not None)
    for body in list(bodies)[:_SHOWN]:
        print(f"The story of event {body}, seed {verdict.played.plan.seed}:")
        print(*story(verdict, body), sep="\n", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the first")
    parser.add_argument("--runs", type=int, default=1, help="how many, with seeds in a row")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long faults go on")
    parser.add_argument("--pace", type=float, default=Plan.pace, help="new events in a second")
    store = "a file, or a database for two routers, whose server is started here and struck as well"
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help=store)
    parser.add_argument("--engine", choices=("native", "httpx"), default=Plan.engine)
    strict = "targets fail and recover, and nothing else happens: no duplicate at all may occur"
    parser.add_argument("--strict", action="store_true", help=strict)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
