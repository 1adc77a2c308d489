"""Checks by requests that a receiver has to refuse, and by a signature that it must not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace

from router.cli.trying.probe.client import Client
from router.cli.trying.probe.finding import (
    Finding,
    answer_of,
    breach,
    good,
    skipped,
    unacknowledged,
)
from router.cli.trying.probe.samples import Sample, Samples
from router.model import Attempt
from router.transport import Failure

#: What a receiver answers whose caller is at fault.
_FAULTS = range(400, 500)

#: What servers say of a method that they don't have at all.
_NOT_IMPLEMENTED = 501

#: More than any receiver lets clocks be apart, in seconds; the standard's are 300.
_STALE = 600.0

_UNKNOWN = "no secret is known: --secret, or `secret` in routes.yaml"

_EVERYBODY = "it sends nothing like this; whoever else can reach the URL may"


def distrusts(
    samples: Callable[[Samples], Iterable[Sample]], what: str, mend: str
) -> Callable[[Client], Awaitable[Finding]]:
    """The check by these samples, whose signature nobody may trust; `what` each of them is."""

    async def run(client: Client) -> Finding:
        if not client.target.secret:
            return skipped(_UNKNOWN)
        return await _refused(client, samples(client.samples), (401,), what, mend)

    return run


unsigned = distrusts(
    lambda samples: [replace(samples.event(), signed="not")],
    "an event without a signature",
    "answer 401 before anything else where webhook-signature is missing",
)

wrong_signature = distrusts(
    lambda samples: [replace(samples.event(), signed="wrong")],
    "an event that is signed by another secret",
    "compare webhook-signature with one of your own, over the body's bytes as they came; answer "
    "401 where it differs",
)

stale = distrusts(
    lambda samples: [replace(samples.event(), age=age) for age in (_STALE, -_STALE)],
    "an event signed ten minutes ago, or ahead,",
    "answer 401 where webhook-timestamp is more than five minutes from your own clock",
)


async def rotated(client: Client) -> Finding:
    if not client.target.secret:
        return skipped(_UNKNOWN)
    attempt = (await client.send(replace(client.samples.event(), signed="rotated"))).attempt
    if attempt.acknowledged:
        return good(answer_of(attempt))
    mend = "split webhook-signature at its blanks, and trust an event where one of them is right"
    return unacknowledged(attempt, "an event with two signatures is not acknowledged", mend)


async def method(client: Client) -> Finding:
    connection = await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(client.judged(connection), "no connection")
    attempt = (await client.ask(connection, client.samples.raw(b""), b"GET")).attempt
    if _is_refused(attempt, (*_FAULTS, _NOT_IMPLEMENTED)):
        return good(f"refused: {answer_of(attempt)}")
    return _not_refused(attempt, "a GET", "a 4xx", "answer 405 to every method but POST")


async def content_type(client: Client) -> Finding:
    form = client.samples.raw(b"event_source=a&changes=", "application/x-www-form-urlencoded")
    mend = "answer 400 or 415 to what is no JSON"
    return await _refused(client, [form], _FAULTS, "a form", mend)


async def broken_json(client: Client) -> Finding:
    broken = [client.samples.raw(body) for body in (b"", b'{"event_source":"a",')]
    mend = "catch what the parser raises, and answer 400"
    return await _refused(client, broken, _FAULTS, "broken JSON", mend)


async def _refused(
    client: Client,
    samples: Iterable[Sample],
    statuses: Collection[int],
    what: str,
    mend: str,
) -> Finding:
    for sample in samples:
        attempt = (await client.send(sample)).attempt
        if not _is_refused(attempt, statuses):
            expected = "401" if len(statuses) == 1 else "a 4xx"
            return _not_refused(attempt, what, expected, mend)
    return good(f"refused: {answer_of(attempt)}")


def _is_refused(attempt: Attempt, statuses: Collection[int]) -> bool:
    """By the HTTP status, or by the contract's code where that is always 200."""
    code = int(attempt.code) if attempt.code.isascii() and attempt.code.isdigit() else None
    return not attempt.acknowledged and (attempt.status in statuses or code in statuses)


def _not_refused(attempt: Attempt, what: str, expected: str, mend: str) -> Finding:
    if attempt.acknowledged:
        return breach(f"{what} is acknowledged", _EVERYBODY, mend)
    return breach(f"{what} gets {answer_of(attempt)}, not {expected}", _EVERYBODY, mend)
