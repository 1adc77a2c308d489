"""`send`: plays EBaaS. One event, once or by the retry schedule."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from router.cli.columns import counted
from router.cli.options import BAD, GOOD, INTERRUPTED, Help, Parser, add_format, heed_ctrl_c, value
from router.cli.printing import note, say_as
from router.cli.trying.request import Request, add_request, note_401, read_request
from router.config.settings import parse_count
from router.contract.schedule import PLATFORM, Schedule, parse_duration

if TYPE_CHECKING:
    from router.cli.trying.request import Ebaas, Response

HELP = Help(
    about="""Plays EBaaS: POSTs one event to a router, or to a business endpoint, and prints the
    reply. The event is made from the options, which are the platform page's sample unless told
    otherwise, or is FILE ('-' is stdin), sent byte for byte. With --retry a request that fails is
    repeated as EBaaS would, 20 times over 14 hours.""",
    examples=(
        "ebaas-router send",
        "ebaas-router send --status 3 --change id7 --change id8",
        "ebaas-router send event.json http://127.0.0.1:9001/callback",
        "ebaas-router send --waits 1s,3s --retries 5",
        "ebaas-router send --url https://router.internal/callback --ca ca.pem",
        "ebaas-router send http://127.0.0.1:9001/callback --sign '${LEDGER_SECRET}'",
        "ebaas-router send --header 'authorization: Bearer ${TOKEN}'",
    ),
    exit_codes={
        GOOD: "the code was 000; with --retry, the last one",
        BAD: "any other code, or none",
        INTERRUPTED: "Ctrl-C ended it",
    },
)


def configure(parser: Parser) -> None:
    parser.takes_bytes = True
    add_request(parser)
    _add_repetition(parser)
    add_format(parser)


def _add_repetition(parser: argparse.ArgumentParser) -> None:
    again = parser.add_argument_group("again and again")
    again.add_argument("--retry", action="store_true", help="repeat what failed, as EBaaS would")
    again.add_argument(
        "--waits",
        type=value(parse_waits),
        metavar="TIMES",
        help="a --retry with these waits, the last of them repeated "
        "(default 1s,3s,7s,30s,60s,300s,3600s)",
    )
    again.add_argument(
        "--retries",
        type=value(parse_count),
        metavar="N",
        help=f"a --retry of so many at most (default {PLATFORM.retries})",
    )


def run(args: argparse.Namespace) -> int:
    request = read_request(args)
    heed_ctrl_c()
    schedule = _schedule(args)
    try:
        return asyncio.run(_send_by(schedule, request, args))
    except KeyboardInterrupt:
        return INTERRUPTED


def parse_waits(text: str) -> tuple[float, ...]:
    return tuple(parse_duration(wait.strip()) for wait in text.split(","))


def _schedule(args: argparse.Namespace) -> Schedule:
    """When to repeat a request that failed: never, unless --retry or one of its kin is given."""
    retry = args.retry or args.waits is not None or args.retries is not None
    retries = (args.retries or PLATFORM.retries) if retry else 0
    return Schedule(args.waits or PLATFORM.waits, retries)


@contextlib.asynccontextmanager
async def _caller(request: Request) -> AsyncIterator[Ebaas]:
    from router.cli.trying.request import Ebaas
    from router.transport.native import NativePool

    pool = NativePool(request.url, request.tls)
    try:
        yield Ebaas(pool, request)
    finally:
        await pool.close()


async def _send_by(schedule: Schedule, request: Request, args: argparse.Namespace) -> int:
    """Send until the code is 000 or the schedule is over; each reply is printed as it comes."""
    total = schedule.retries + 1
    made = 0
    async with _caller(request) as caller:
        try:
            while True:
                reply = await caller.call()
                made += 1
                _print_reply(reply, made, total, args.format)
                if made == 1:
                    note_401(reply, args)
                wait = schedule.wait(made - 1)
                if reply.success or wait is None:
                    return GOOD if reply.success else BAD
                note(f"request {made + 1} of {total}, in {wait:g} s")
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            note(f"interrupted after {made} of {counted(total, 'request')}")
            raise


def _print_reply(reply: Response, number: int, total: int, format: str) -> None:
    lead = f"request {number} of {total}: " if total > 1 else ""
    say_as(format, [{"request": number, "of": total, **reply.as_json()}], [f"{lead}{reply}"])
