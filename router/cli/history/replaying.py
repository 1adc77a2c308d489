"""`archive replay`: counted, confirmed, queued step by step at a rate, and gone on with."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING

from router.archive.reading import Damage
from router.archive.trace.question import Question
from router.archive.trace.story import Again, resend, resumed, words_of
from router.cli.columns import counted
from router.cli.deliveries.acting import Work, confirmed, report
from router.cli.deliveries.selecting import note_removed
from router.cli.history.finding import mind_targets
from router.cli.options import BAD, GOOD, mind_target, read_setting
from router.cli.printing import note, say_lines
from router.cli.remote import Progress, targets_of, whoever
from router.cli.routes.inputs import read_config, usable
from router.model.errors import SettingInvalid
from router.model.event import new_id
from router.store.ops import STEP, Action, Resend, Resent, Verb
from router.store.promises import StoreFailed, StoreFull
from router.store.shapes import action_shape
from router.telemetry.log.lines import stamp, utc

if TYPE_CHECKING:
    from pathlib import Path

    from router.store.ops import Ops

#: For how long one that was stopped can be gone on with, in seconds; and among how many actions of
#: people it is looked for.
_RESUMABLE, _LAST = 86400.0, 1000

#: How old a line is, in seconds, before it is sure to have been written.
_WRITTEN = 1.0

#: How long room in the store is waited for, and looked for again, in seconds.
_PATIENCE, _LOOK = 60.0, 1.0


def replay(
    runner: asyncio.Runner, ops: Ops, folder: Path, args: argparse.Namespace, rate: float
) -> int:
    """So many events a second; the exit code."""
    target = _target(args)
    config = read_setting(args, "config")
    mind_targets([target], config, folder)
    note_removed([target], str(config), targets_of(config))
    if args.backfill and not _is_defined(target, args):
        return BAD
    again, action = _begun(runner, ops, target, args)
    seen = Seen(Damage())
    work = Work(Verb.REPLAY, sum(1 for _ in _resends(again, folder, seen, note)))
    if args.format == "text":
        say_lines(_preview(again, work, seen))
    if work.number and not args.dry_run:
        if not confirmed(work, args):
            return BAD
        runner.run(_do(ops, action, again, folder, work, rate))
    left_out = {
        "without_body": seen.without_body,
        "targets_cut": seen.unknown,
        "no_event": seen.no_event,
        "damaged_segments": seen.damage.segments,
        "damaged_lines": seen.damage.lines,
    }
    report(work, args, {**action_shape(action), **left_out}, _stayed(work, args), "to go on")
    if seen.damage:
        note(f"{seen.damage}: there may be more events than these")
    return BAD if work.trouble or seen.damage else GOOD


def _target(args: argparse.Namespace) -> str:
    if not args.target or len(args.target) != 1:
        raise SettingInvalid("replay to which target? One of them: --target NAME")
    if args.match is None and args.since is None:
        raise SettingInvalid("replay which events? --since TIME, or --match '*' for all")
    target: str = args.target[0]
    return target


def _is_defined(target: str, args: argparse.Namespace) -> bool:
    """Else whatever is queued would become a dead letter."""
    name = str(read_setting(args, "config"))
    config = usable(read_config(name, args), args.format)
    if config is None:
        return False
    mind_target(target, config.table.targets, "routes.yaml")
    return True


def _begun(
    runner: asyncio.Runner, ops: Ops, target: str, args: argparse.Namespace
) -> tuple[Again, Action]:
    """A new replay, or the one of the same words that was stopped."""
    now, what = ops.now(), _words(args)
    until = min(now if args.until is None else args.until, now - _WRITTEN)
    question = Question(keys=tuple(args.match or ()), since=args.since, until=until)
    for action in () if args.anew else runner.run(ops.actions(_LAST)):
        found = resumed(what, action.what) if now - action.at < _RESUMABLE else None
        if found is not None:
            since, place = found
            note(
                f"going on with what {action.who} began at {utc(action.at)}, "
                f"after {stamp(place.at)}; --anew begins anew"
            )
            question = replace(question, since=since)
            again = Again(target, question, args.backfill, place)
            return again, replace(action, what=words_of(what, since))
        if _is_of(what, action.what):
            # The last one of these words was finished.
            if now - action.at < _RESUMABLE:
                note(f"{action.who} has done the same at {utc(action.at)}: this does it anew")
            break
    action = Action(new_id(), Verb.REPLAY, args.who or whoever(), words_of(what, args.since), now)
    return Again(target, question, args.backfill), action


def _is_of(what: str, said: str) -> bool:
    return said.startswith(f"archive {what} from ")


def _words(args: argparse.Namespace) -> str:
    """The selection as it was typed: a time ago stays one."""
    said = ["--target", args.target[0]]
    for keys in args.match or ():
        said += ["--match", keys.pattern]
    for name in ("since", "until"):
        if (moment := getattr(args, name)) is not None:
            said += [f"--{name}", moment.words]
    return shlex.join([*said, *(["--backfill"] if args.backfill else [])])


@dataclass(slots=True)
class Seen:
    """What a look has met. Not frozen: it goes on."""

    damage: Damage
    first: float | None = None
    last: float | None = None
    without_body: int = 0
    no_event: int = 0
    unknown: int = 0


def _resends(
    again: Again, folder: Path, seen: Seen, tell: Callable[[str], None] = lambda why: None
) -> Iterator[Resend]:
    """Those that have a body, and in it an event."""
    for told in again.choose(folder, Progress("looked through"), tell, seen.damage):
        if again.is_unknown(told):
            seen.unknown += 1
            continue
        if told.body is None:
            seen.without_body += 1
            continue
        if (resent := resend(told)) is None:
            seen.no_event += 1
            continue
        seen.first = seen.first or told.at
        seen.last = told.at
        yield resent


def _preview(again: Again, work: Work, seen: Seen) -> Iterator[str]:
    span = ""
    if seen.first is not None and seen.last is not None:
        span = f", from {utc(seen.first)} to {utc(seen.last)}"
    which = "that it was in no plan of" if again.backfill else "that it was in the plan of"
    yield f"{counted(work.number, 'event')} for {again.target} {which}{span}"
    if seen.without_body:
        yield f"{counted(seen.without_body, 'event')} without a body, left out"
    if seen.unknown:
        yield f"{counted(seen.unknown, 'event')} whose line has not all targets, left out"
    if seen.no_event:
        yield f"{counted(seen.no_event, 'line')} that the router can't have written, left out"


async def _do(
    ops: Ops, action: Action, again: Again, folder: Path, work: Work, rate: float
) -> None:
    """Step by step; what is done stays done, whatever stops it."""
    pending = _resends(again, folder, Seen(Damage()))
    size = max(1, min(STEP, int(rate)))
    progress = Progress("replayed")
    due = time.monotonic()
    try:
        while batch := list(islice(pending, size)):
            await asyncio.sleep(due - time.monotonic())
            due = max(due, time.monotonic()) + len(batch) / rate
            while batch:
                resent = await _step(ops, again.target, action, batch)
                work.taken += resent.taken
                work.changed += resent.queued
                batch = batch[resent.taken :]
            progress(f"{work.changed:,} of {work.number:,}")
        await ops.resend(action, again.target, ())
    except StoreFailed as error:
        work.trouble = f"the store failed: {error.told}"
    except asyncio.CancelledError:
        note(f"stopped: {work}, of {work.number:,}; run it again to go on")
        raise


async def _step(ops: Ops, target: str, action: Action, batch: Sequence[Resend]) -> Resent:
    """At least one of them; where the target's share of the store is full, once it has room."""
    for waited in count():
        with suppress(StoreFull):
            resent = await ops.resend(action, target, batch)
            if resent.taken:
                return resent
        if waited == 0:
            note(f"waiting: {target}'s share of the store is full")
        if waited * _LOOK >= _PATIENCE:
            break
        await asyncio.sleep(_LOOK)
    raise StoreFull({target})


def _stayed(work: Work, args: argparse.Namespace) -> Iterator[str]:
    if args.dry_run and work.number:
        yield "at most: deliveries that EBaaS or the queue is still retrying are left alone"
    if left := work.taken - work.changed:
        yield f"{left:,} left alone: still being retried, or already replayed by this command"
