"""`archive replay`: counted, confirmed, queued step by step at a rate, and resumed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from router.cli.acting import Work, confirmed, note_removed, report
from router.cli.asking import RemoteProblem
from router.cli.columns import counted
from router.cli.finding import require_targets
from router.cli.options import BAD, GOOD, require_target
from router.cli.printing import note, say_lines
from router.cli.remote import Progress, Remote
from router.model.errors import SettingInvalid
from router.store.admin import STEP, Verb

#: For how long the router may count what there is, in seconds.
_COUNTED_WITHIN = 600.0

#: How long room in the store is waited for, and looked for again, in seconds.
_PATIENCE, _LOOK = 60.0, 1.0


def replay(router: Remote, args: argparse.Namespace, rate: float) -> int:
    """So many events a second; the exit code."""
    target = _target(args)
    named = router.targets()
    if args.backfill:
        # Anything queued for another target would become a dead letter.
        require_target(target, named or (), router.routes)
    require_targets(router, [target])
    note_removed([target], router.routes, named)
    body = {**_body(target, args), "dry_run": True}
    preview = router.post("/archive/replay", body, _COUNTED_WITHIN)
    if preview["before"]:
        note(preview["before"])
    work = Work(Verb.REPLAY, preview["number"])
    if args.format == "text":
        say_lines(_preview(target, args.backfill, preview))
    if work.number and not args.dry_run:
        if not confirmed(work, args):
            return BAD
        _do(router, target, preview["token"], work, rate)
    action = {**preview["action"], **preview["left_out"]}
    report(work, args, action, _stayed(work, args), "to go on")
    if preview["damage"]:
        note(f"{preview['damage']}: there may be more events than these")
    return BAD if work.trouble or preview["damage"] else GOOD


def _target(args: argparse.Namespace) -> str:
    if not args.target or len(args.target) != 1:
        raise SettingInvalid("replay to which target? One of them: --target NAME")
    if args.match is None and args.since is None:
        raise SettingInvalid("replay which events? --since TIME, or --match '*' for all")
    target: str = args.target[0]
    return target


def _body(target: str, args: argparse.Namespace) -> dict[str, Any]:
    """Which events are meant, as the API wants it."""
    body: dict[str, Any] = {"target": target}
    if args.match:
        body["match"] = [keys.pattern for keys in args.match]
    for name in ("since", "until"):
        if (moment := getattr(args, name)) is not None:
            body[name] = moment.words
    return {**body, **{name: True for name in ("backfill", "anew") if getattr(args, name)}}


def _preview(target: str, is_backfill: bool, preview: Any) -> Iterator[str]:
    span, left_out = "", preview["left_out"]
    if preview["number"]:
        span = f", from {preview['first']} to {preview['last']}"
    which = "that it was in no plan of" if is_backfill else "that it was in the plan of"
    yield f"{counted(preview['number'], 'event')} for {target} {which}{span}"
    if number := left_out["without_body"]:
        yield f"{counted(number, 'event')} without a body, left out"
    if number := left_out["targets_cut"]:
        yield f"{counted(number, 'event')} whose line has not all targets, left out"
    if number := left_out["no_event"]:
        yield f"{counted(number, 'line')} that the router can't have written, left out"


def _do(router: Remote, target: str, token: str, work: Work, rate: float) -> None:
    """Step by step; what is done stays done, whatever stops it."""
    asked = {"token": token, "most": max(1, min(STEP, int(rate)))}
    progress, due, has_more = Progress("replayed"), time.monotonic(), True
    try:
        while has_more:
            time.sleep(max(0.0, due - time.monotonic()))
            done = _step(router, target, asked)
            has_more = done["more"]
            due = max(due, time.monotonic()) + done["taken"] / rate
            work.taken += done["taken"]
            work.changed += done["changed"]
            progress(f"{work.changed:,} of {work.number:,}")
    except RemoteProblem as error:
        work.trouble = str(error)
    except KeyboardInterrupt:
        note(f"stopped: {work}, of {work.number:,}; run it again to go on")
        raise


def _step(router: Remote, target: str, asked: dict[str, Any]) -> Any:
    """At least one event; if the target's share of the store is full, once it has room."""
    waited = 0
    while True:
        done = router.post("/archive/replay", asked, _COUNTED_WITHIN)
        if done["taken"] or not done["is_full"]:
            return done
        if waited == 0:
            note(f"waiting: {target}'s share of the store is full")
        if waited * _LOOK >= _PATIENCE:
            raise RemoteProblem(f"{target}'s share of the store is full")
        time.sleep(_LOOK)
        waited += 1


def _stayed(work: Work, args: argparse.Namespace) -> Iterator[str]:
    if args.dry_run and work.number:
        yield "at most: deliveries that EBaaS or the queue is still retrying are left alone"
    if left := work.taken - work.changed:
        yield f"{left:,} left alone: still being retried, or already replayed by this command"
