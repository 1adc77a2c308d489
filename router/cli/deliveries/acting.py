"""A person's action on many deliveries: counted, confirmed, done step by step, reported."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from router.cli.deliveries.entries import (
    DONE,
    counts_told,
    deliveries,
    standing,
    total,
)
from router.cli.deliveries.selecting import words
from router.cli.options import BAD, GOOD
from router.cli.printing import NAME, note, say, say_json
from router.model import SettingInvalid, new_id
from router.store import (
    Action,
    CountShape,
    Later,
    Selection,
    StoreFailed,
    Verb,
    action_shape,
    carry_out,
    count_shapes,
    entry_shape,
)

if TYPE_CHECKING:
    from router.store import Ops

#: How many deliveries are acted on without a question.
UNASKED = 10

#: How often progress is told, in seconds.
_PROGRESS = 2.0


def act(runner: asyncio.Runner, ops: Ops, selection: Selection, args: argparse.Namespace) -> int:
    """Replay, discard or restore what is selected; the exit code."""
    # What comes meanwhile was not counted, so it is not acted on either.
    selection = replace(selection, until=min(selection.until or ops.now(), ops.now()))
    counts = count_shapes(runner.run(ops.counts(selection)))
    left_out = _left_out(runner, ops, selection)
    action = Action(new_id(), Verb(args.verb), args.who or whoever(), words(args), ops.now())
    work = Work(action, total(counts))
    if args.format == "text":
        for line in (
            counts_told(counts, ops.now()) if counts else [_nothing_fits(selection, action)]
        ):
            say(line)
    if work.number and not args.dry_run:
        if work.number > UNASKED and not args.yes and not confirmed(work):
            note("nothing was changed")
            return BAD
        runner.run(work.do(ops, selection))
    why = [] if work.number else runner.run(_why_not(ops, selection))
    if args.format == "json":
        say_json({**_as_json(work, counts, left_out, dry_run=args.dry_run), "why": why})
    else:
        _report(work, left_out, dry_run=args.dry_run)
        for line in why:
            say(line)
    return BAD if work.trouble else GOOD


@dataclass(slots=True)
class Work:
    """An action and how far it is. Not frozen: it goes on."""

    action: Action
    #: How many deliveries were selected.
    number: int
    taken: int = 0
    changed: int = 0
    #: Why it stopped before its end; `""` where it did not.
    trouble: str = ""

    async def do(self, ops: Ops, selection: Selection) -> None:
        """Step by step; what is done stays done, whatever stops it."""
        told = time.monotonic()
        try:
            async with aclosing(carry_out(ops, self.action, selection)) as steps:
                async for step in steps:
                    self.taken += step.taken
                    self.changed += step.changed
                    if time.monotonic() - told >= _PROGRESS:
                        told = time.monotonic()
                        note(f"{self}, of {self.number:,}")
        except StoreFailed as error:
            self.trouble = str(error)
        except asyncio.CancelledError:
            note(f"stopped: {self}, of {self.number:,}, and perhaps the step in hand; see the list")
            raise

    def __str__(self) -> str:
        return f"{deliveries(self.changed)} {DONE[self.action.verb]}"


def _nothing_fits(selection: Selection, action: Action) -> str:
    """What was looked for in vain."""
    states = ["discarded"] if action.verb is Verb.RESTORE else map(str, selection.states)
    return f"no {' or '.join(states)} delivery fits {action.what}"


async def _why_not(ops: Ops, selection: Selection) -> list[str]:
    """Of the events that were asked for, why nothing is done with their deliveries."""
    said: list[str] = []
    for event_id in selection.event_ids:
        dossier = await ops.dossier(event_id)
        if dossier is None:
            said.append(f"event {event_id}: never kept, or over for long enough")
            continue
        told = [
            e for e in dossier.entries if e.row.target in (selection.targets or (e.row.target,))
        ]
        said += [f"{e.row.target}: {standing(entry_shape(e), ops.now())}" for e in told]
    return said


def _left_out(runner: asyncio.Runner, ops: Ops, selection: Selection) -> int:
    """How many more there are that were acknowledged later."""
    if selection.acknowledged_later is not Later.EXCLUDE:
        return 0
    only = replace(selection, acknowledged_later=Later.ONLY)
    return total(count_shapes(runner.run(ops.counts(only))))


def confirmed(work: Work) -> bool:
    """Ask on a terminal; where there is none, that is a mistake of the command line."""
    what = f"{work.action.verb} {deliveries(work.number)}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingInvalid(f"to {what} needs --yes; --dry-run only counts")
    print(f"{NAME}: {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(work: Work, left_out: int, *, dry_run: bool) -> None:
    if dry_run:
        say(f"{deliveries(work.number)} would be {DONE[work.action.verb]}")
    else:
        say(str(work))
    if left_out:
        were = "was" if left_out == 1 else "were"
        say(f"{left_out:,} {were} acknowledged later, as another event's, and left out:")
        say("  --acknowledged-later include takes them too")
    if elsewhere := work.taken - work.changed:
        say(f"{elsewhere:,} had changed meanwhile and stayed as they were")
    if work.trouble:
        note(f"stopped: the store failed ({work.trouble}); run it again for what is left")


def _as_json(
    work: Work, counts: Sequence[CountShape], left_out: int, *, dry_run: bool
) -> dict[str, Any]:
    return {
        **action_shape(replace(work.action, deliveries=work.changed)),
        "dry_run": dry_run,
        "selected": work.number,
        "left_out": left_out,
        "trouble": work.trouble or None,
        "counts": counts,
    }


def whoever() -> str:
    """Whoever runs this, as far as the system knows."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
