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
from tests.chaos.report import Figures, figures, heading, row, story, total
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
    runs: list[Figures] = []
    for seed in range(args.seed, args.seed + args.runs):
        verdict = _verdict(_plan(seed, args))
        if verdict is None:
            return 1
        run = figures(verdict)
        if not runs:
            print(heading(run))
        print(row(seed, run), flush=True)
        if args.strict and verdict.played.history.is_disturbed:
            print("        the machine was too busy: duplicates with a cause are allowed")
        complain(verdict)
        runs.append(run)
    if len(runs) > 1:
        print(row("all", total(runs)))
    broken = sum(run["broken"] > 0 for run in runs)
    print(f"{broken} of {len(runs)} runs broke a promise" if broken else "every promise was kept")
    return 1 if broken else 0


def _plan(seed: int, args: argparse.Namespace) -> Plan:
    database = args.store == "postgresql"
    nodes = args.nodes or (2 if database else 1)
    return Plan(seed, args.seconds, nodes, database, args.pace, args.engine, args.strict)


def _verdict(plan: Plan) -> Verdict | None:
    """Play a run; return None and print why if it could not be ended."""
    with tempfile.TemporaryDirectory() as folder, weather(plan, Path(folder)) as above:
        try:
            return judge(asyncio.run(play(plan, Path(folder), above)))
        except Stuck as stuck:
            print(f"BROKEN  seed {plan.seed}: {stuck}", flush=True)
            return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the first")
    parser.add_argument("--runs", type=int, default=1, help="how many, with seeds in a row")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long faults go on")
    parser.add_argument("--pace", type=float, default=Plan.pace, help="new events in a second")
    parser.add_argument(
        "--store",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="a file, or a database of a server that is started here and struck as well",
    )
    parser.add_argument("--nodes", type=int, help="routers on one store; 2 on postgresql, else 1")
    parser.add_argument(
        "--engine",
        choices=("native", "httpx"),
        default=Plan.engine,
        help="what speaks HTTP to targets; httpx is the reference",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="targets fail and recover, and nothing else happens: no duplicate at all may occur",
    )
    return parser.parse_args()


def complain(verdict: Verdict) -> None:
    """Print the broken promises, and the story of the first ones."""
    for broken in verdict.broken:
        about = "" if broken.body is None else f"event {broken.body}: "
        print(f"BROKEN  {about}{broken.what}")
    bodies = dict.fromkeys(b.body for b in verdict.broken if b.body is not None)
    for body in list(bodies)[:_SHOWN]:
        print(f"The story of event {body}, seed {verdict.played.plan.seed}:")
        print(*story(verdict, body), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
