"""`probe`: asks an endpoint whether it keeps the contract, by sending it events."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from router.cli.options import (
    BAD,
    GOOD,
    INTERRUPTED,
    NOT_STARTED,
    Help,
    add_format,
    heed_ctrl_c,
    nearest_of,
    said_yes,
    value,
)
from router.cli.printing import note
from router.cli.trying.probe.client import Receiver, add_receiver, read_receiver
from router.cli.trying.probe.words import PROBE_WORDS
from router.cli.wording import Wording, add_language, read_language
from router.config.settings import parse_count
from router.contract.schedule import parse_duration
from router.model.errors import SettingInvalid

if TYPE_CHECKING:
    from router.cli.trying.probe.checks import Check
    from router.cli.trying.probe.client import Client
    from router.cli.trying.probe.report import ProbeReport

HELP = Help(
    about="""Sends an endpoint what the router may send it, and what it must refuse, and prints a
    line for each check: what was seen; of a breach what is wrong, what the router makes of such an
    answer, and how to mend it. These are real POSTs: what the endpoint acknowledges it may do its
    work for. So it says first what it will send, and asks; --yes is for where nobody can be asked.
    The ids in `changes` begin with probe-. With --target all but the checks is as routes.yaml has
    it.""",
    examples=(
        "ebaas-router probe http://127.0.0.1:9002/callback",
        "ebaas-router probe https://ledger.internal/callback --secret '${LEDGER_SECRET}'",
        "ebaas-router probe --target ledger --config config/routes.yaml",
        "ebaas-router probe http://127.0.0.1:9002/callback --only answers --only timing",
        "ebaas-router probe http://127.0.0.1:9002/callback --yes --format json",
    ),
    exit_codes={
        GOOD: "no breach; a warning is none",
        BAD: "a breach, or a no to the question",
        NOT_STARTED: "could not start: routes.yaml is not valid or can't be read",
        INTERRUPTED: "Ctrl-C ended it",
    },
)


#: The platform page's own.
_KEY = "a.gs.cert.1"

#: The longest that a connection can be left alone, in seconds: then the router ends it itself.
_MAX_IDLE = 3.0


def parse_key(text: str) -> str:
    four = text.split(".")
    if len(four) != 4 or not all(four) or not text.isprintable():
        raise ValueError(f"{text!r} is not a key (like {_KEY})")
    return text


def parse_idle(text: str) -> float:
    seconds = parse_duration(text)
    if not 0 < seconds <= _MAX_IDLE:
        raise ValueError(f"{text!r} is not a time up to {_MAX_IDLE:g}s")
    return seconds


def configure(parser: argparse.ArgumentParser) -> None:
    add_receiver(parser)
    which = parser.add_argument_group("the checks")
    for name, what in (("only", "make this check alone"), ("skip", "leave this check out")):
        which.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="CHECK",
            help=f"{what}; may be repeated",
        )
    which.add_argument(
        "--key",
        type=value(parse_key),
        default=_KEY,
        help=f"of the events, its four fields joined by dots (default {_KEY})",
    )
    _add_effort(which)
    parser.add_argument("--yes", action="store_true", help="send without asking")
    add_language(parser)
    about = "of the results; json is a line for each check (default text)"
    add_format(parser, about=about)


def _add_effort(which: argparse._ArgumentGroup) -> None:
    for name, what in (("requests", "time so many requests"), ("at-once", "send so many at once")):
        which.add_argument(
            f"--{name}",
            type=value(parse_count),
            default=20,
            metavar="N",
            help=f"{what} (default 20)",
        )
    which.add_argument(
        "--idle",
        type=value(parse_idle),
        default="1s",
        metavar="TIME",
        help="leave a connection alone for so long, 3s at most (default 1s)",
    )


def run(args: argparse.Namespace) -> int:
    from router.cli.trying.probe.checks import Grade, checks
    from router.cli.trying.probe.client import Client, Effort, Samples
    from router.cli.trying.probe.report import ProbeReport

    receiver, words = read_receiver(args), Wording(PROBE_WORDS, read_language(args))
    effort, samples = Effort(args.requests, args.at_once, args.idle), Samples(args.key)
    chosen = _chosen(checks(effort, samples), args)
    heed_ctrl_c()
    if not _may(receiver, chosen, args, words):
        note(words("asks.no"))
        return BAD
    if args.format != "text":
        words = Wording(PROBE_WORDS)  # which no locale changes
    report = ProbeReport(receiver, args.format, words)
    make_client = partial(Client, receiver.target, samples, effort, words)
    try:
        asyncio.run(_make(chosen, make_client, report))
    except KeyboardInterrupt:
        return INTERRUPTED
    report.end()
    return BAD if report.counts[Grade.BREACH] else GOOD


def _chosen(every: Sequence[Check], args: argparse.Namespace) -> Sequence[Check]:
    names = [check.name for check in every]
    for option in ("only", "skip"):
        for name in getattr(args, option):
            if name not in names:
                known = nearest_of(name, names) or f"; there are {', '.join(names)}"
                raise SettingInvalid(f"--{option}: {name!r} is not a check{known}")
    only = args.only or names
    chosen = [check for check in every if check.name in only and check.name not in args.skip]
    if not chosen:
        raise SettingInvalid("--skip leaves no check")
    return chosen


def _may(
    receiver: Receiver, chosen: Sequence[Check], args: argparse.Namespace, words: Wording
) -> bool:
    """Say what will be sent, and to whom, and ask; SettingInvalid where there is nobody to."""
    requests = sum(check.requests for check in chosen)
    said = {"url": receiver.shown, "key": args.key}
    note(words("asks", checks=len(chosen), requests=requests, **said))
    answer = args.yes or said_yes(words("asks.question"))
    if answer is None:
        raise SettingInvalid(words("asks.nobody"))
    return bool(answer)


async def _make(
    chosen: Sequence[Check], make_client: Callable[[], Client], report: ProbeReport
) -> None:
    """Each check by connections of its own. Where the first ones find that no event would be
    acknowledged, the others are left: what the router tolerates is no reason for that."""
    for number, check in enumerate(chosen, 1):
        started = time.perf_counter()
        async with contextlib.aclosing(make_client()) as client:
            finding = await check.run(client)
        report.add(check.name, finding, time.perf_counter() - started)
        if check.is_first and finding.reason is not None:
            report.leave([each.name for each in chosen[number:]], check.name)
            return
