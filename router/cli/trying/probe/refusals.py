"""Checks by requests that a receiver has to refuse, and by a signature that it must not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from router.cli.wording import Wording
from router.model.event import Attempt
from router.transport.engine import Failure

#: What a receiver answers whose caller is at fault.
_FAULTS = range(400, 500)

#: What servers say of a method that they don't have at all.
_NOT_IMPLEMENTED = 501

#: More than any receiver lets clocks be apart, in seconds; the standard's are 300.
_STALE = 600.0


#: What nobody may trust, by the name of the check.
DISTRUSTED: Mapping[str, Callable[[Samples], Sequence[Sample]]] = {
    "unsigned": lambda samples: [replace(samples.event(), signed="not")],
    "wrong-signature": lambda samples: [replace(samples.event(), signed="wrong")],
    "stale": lambda samples: [replace(samples.event(), age=age) for age in (_STALE, -_STALE)],
}


async def distrusted(name: str, client: Client) -> Finding:
    """The check of that name; its words are below it."""
    if not client.target.secret:
        return skipped(client.words("no secret"))
    return await _refused(client, name, DISTRUSTED[name](client.samples), (401,))


async def rotated(client: Client) -> Finding:
    words = client.words
    if not client.target.secret:
        return skipped(words("no secret"))
    attempt = (await client.send(replace(client.samples.event(), signed="rotated"))).attempt
    if attempt.acknowledged:
        return good(answer_of(words, attempt))
    return unacknowledged(words, attempt, words("rotated"), words("rotated.mend"))


async def method(client: Client) -> Finding:
    words, connection = client.words, await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("no connection"))
    attempt = (await client.ask(connection, client.samples.raw(b""), b"GET")).attempt
    statuses = (*_FAULTS, _NOT_IMPLEMENTED)
    return _not_refused(words, "method", attempt, statuses) or _good(words, attempt)


async def content_type(client: Client) -> Finding:
    form = client.samples.raw(b"event_source=a&changes=", "application/x-www-form-urlencoded")
    return await _refused(client, "content-type", [form], _FAULTS)


async def broken_json(client: Client) -> Finding:
    broken = [client.samples.raw(body) for body in (b"", b'{"event_source":"a",')]
    return await _refused(client, "broken-json", broken, _FAULTS)


async def _refused(
    client: Client, name: str, samples: Iterable[Sample], statuses: Collection[int]
) -> Finding:
    for sample in samples:
        attempt = (await client.send(sample)).attempt
        if found := _not_refused(client.words, name, attempt, statuses):
            return found
    return _good(client.words, attempt)


def _not_refused(
    words: Wording, name: str, attempt: Attempt, statuses: Collection[int]
) -> Finding | None:
    """The breach of who did not refuse by one of these: the HTTP status, or the contract's code
    where that is always 200."""
    code = int(attempt.code) if attempt.code.isascii() and attempt.code.isdigit() else None
    if not attempt.acknowledged and (attempt.status in statuses or code in statuses):
        return None
    what = words(name)
    if attempt.acknowledged:
        said = words("trusted", what=what)
    else:
        expected = "401" if len(statuses) == 1 else words("a 4xx")
        answer = answer_of(words, attempt)
        said = words("not refused", what=what, answer=answer, expected=expected)
    return breach(said, words("everybody"), words(f"{name}.mend"))


def _good(words: Wording, attempt: Attempt) -> Finding:
    return good(words("refused", answer=answer_of(words, attempt)))
