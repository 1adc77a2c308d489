"""Checks of answers to plain events: their form, how quick they are, and many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from router.cli.printing import milliseconds
from router.cli.trying.load import percentile
from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import (
    Finding,
    answer_of,
    breach,
    good,
    skipped,
    unacknowledged,
)
from router.contract import parse_json
from router.model import Reason
from router.transport import Answer

_LET_IN = "say who you are: --secret, --header, or --target NAME with what routes.yaml has"


async def redirects(client: Client) -> Finding:
    attempt = (await client.send(client.samples.event())).attempt
    if attempt.reason is Reason.REDIRECT:
        return unacknowledged(attempt, "the URL redirects")
    if attempt.status is None:
        return skipped(f"no answer came: {answer_of(attempt)}")
    return good(f"none: {answer_of(attempt)}")


async def acknowledged(client: Client) -> Finding:
    result, attempt, _ = await client.send(client.samples.event())
    if not attempt.acknowledged:
        mend = _LET_IN if attempt.status in (401, 403) else ""
        return unacknowledged(attempt, "the sample event is not acknowledged", mend)
    by_code = client.target.acknowledge == "code"
    if by_code and isinstance(result, Answer) and (wrong := _no_strings(result.body)):
        then = "it acknowledges all the same; others that speak the contract may not"
        return breach(f"{wrong} is no string", then, "make it one, or leave it out")
    return good(f"{answer_of(attempt)} in {milliseconds(attempt.seconds)} ms")


def _no_strings(body: bytes) -> str:
    """Which of the contract's other members an answer has as something else than a string."""
    told = parse_json(body)
    others = {name: told.get(name) for name in ("msg", "request_id")}
    return ", ".join(name for name, said in others.items() if not isinstance(said, str | None))


async def timing(client: Client) -> Finding:
    """One after the other, up to the first that is not acknowledged."""
    seconds: list[float] = []
    for number in range(client.effort.requests):
        attempt = (await client.send(client.samples.event())).attempt
        if not attempt.acknowledged:
            return unacknowledged(attempt, f"request {number + 1} in a row is not acknowledged")
        seconds.append(attempt.seconds)
    return good(_figures(seconds, client.target.timeout))


async def at_once(client: Client) -> Finding:
    number = min(client.effort.at_once, client.target.max_in_flight)
    sending = (client.send(client.samples.event()) for _ in range(number))
    attempts = [exchange.attempt for exchange in await asyncio.gather(*sending)]
    failed = [attempt for attempt in attempts if not attempt.acknowledged]
    if failed:
        what = f"{len(failed)} of {len(attempts)} at once are not acknowledged"
        mend = "serve that many at a time, or set `max_in_flight` of the target to what it can do"
        return unacknowledged(failed[0], what, mend)
    return good(_figures([attempt.seconds for attempt in attempts], client.target.timeout))


def _figures(seconds: Sequence[float], timeout: float) -> str:
    ordered = sorted(seconds)
    p50, p99 = (milliseconds(percentile(ordered, share)) for share in (50, 99))
    return f"p50 {p50} ms, p99 {p99} ms of {len(ordered)}; the timeout is {timeout:g} s"
