"""Checks of answers to plain events: their form, how quick they are, and many at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from router.cli.printing import milliseconds
from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import (
    Finding,
    answer_of,
    breach,
    good,
    skipped,
    unacknowledged,
)
from router.contract.strictjson import parse_json
from router.model.event import Reason
from router.transport.engine import Answer


async def redirects(client: Client) -> Finding:
    words, attempt = client.words, (await client.send(client.samples.event())).attempt
    if attempt.reason is Reason.REDIRECT:
        return unacknowledged(words, attempt, words("redirects"))
    if attempt.status is None:
        return skipped(words("redirects.unanswered", answer=answer_of(words, attempt)))
    return good(words("redirects.none", answer=answer_of(words, attempt)))


async def acknowledged(client: Client) -> Finding:
    words, (result, attempt, _) = client.words, await client.send(client.samples.event())
    if not attempt.acknowledged:
        mend = words("answers.mend") if attempt.status in (401, 403) else ""
        return unacknowledged(words, attempt, words("answers"), mend)
    by_code = client.target.acknowledge == "code"
    if by_code and isinstance(result, Answer) and (wrong := _no_strings(result.body)):
        said = words("no string", names=wrong)
        return breach(said, words("no string.then"), words("no string.mend"))
    ms = str(milliseconds(attempt.seconds))
    return good(words("answers.took", answer=answer_of(words, attempt), ms=ms))


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
            what = client.words("timing", number=number + 1)
            return unacknowledged(client.words, attempt, what)
        seconds.append(attempt.seconds)
    return good(_figures(client, seconds))


async def at_once(client: Client) -> Finding:
    words, number = client.words, min(client.effort.at_once, client.target.max_in_flight)
    sending = (client.send(client.samples.event()) for _ in range(number))
    attempts = [trial.attempt for trial in await asyncio.gather(*sending)]
    failed = [attempt for attempt in attempts if not attempt.acknowledged]
    if failed:
        what = words("at-once", failed=len(failed), number=len(attempts))
        return unacknowledged(words, failed[0], what, words("at-once.mend"))
    return good(_figures(client, [attempt.seconds for attempt in attempts]))


def percentile(ordered: Sequence[float], share: int) -> float:
    """Return the nearest rank: a time that one request really took."""
    return ordered[math.ceil(len(ordered) * share / 100) - 1]


def _figures(client: Client, seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = (str(milliseconds(percentile(ordered, share))) for share in (50, 99))
    timeout = f"{client.target.timeout:g}"
    return client.words("figures", p50=p50, p99=p99, number=str(len(ordered)), timeout=timeout)
