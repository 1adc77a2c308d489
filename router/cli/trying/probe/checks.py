"""The checks: one table, in the order in which they are made, and what each looks at."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from router.cli.printing import milliseconds
from router.cli.trying.probe.client import Client, Effort, Sample, Samples, Signed
from router.cli.wording import Wording
from router.contract.strictjson import ANSWER, parse_json
from router.model.event import Attempt, Reason
from router.transport.engine import Answer, Failure
from router.transport.native import TargetConnection

#: What a receiver answers whose caller is at fault.
_FAULTS = range(400, 500)

#: What servers say of a method that they don't have at all.
_NOT_IMPLEMENTED = 501

#: More than any receiver lets clocks be apart, in seconds; the standard's are 300.
_STALE = 600.0

#: How long a certificate has to be good for yet, in days.
_LEAST_DAYS = 14

#: How often a connection is looked at, in seconds.
_LOOK = 0.005

#: The reasons of an event that the receiver has not read: no check's own advice is about them.
_UNREAD = frozenset(
    {
        Reason.REDIRECT, Reason.CONNECT_REFUSED, Reason.CONNECT_TIMEOUT, Reason.UNREACHABLE,
        Reason.FORBIDDEN, Reason.DNS, Reason.TLS,
    }
)  # fmt: skip


class Grade(StrEnum):
    GOOD = "good"
    #: Nothing that the router minds, but others may.
    WARNING = "warning"
    BREACH = "breach"
    #: It was not tried.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has come to, in words for people."""

    grade: Grade
    #: What was seen; of a breach what is wrong, of what was skipped why.
    said: str
    #: As what the router takes such an answer; None where it would get none like it.
    reason: Reason | None = None
    #: What that does to whom, where it is not that the event comes again.
    then: str = ""
    #: How to mend it.
    mend: str = ""


def good(said: str) -> Finding:
    return Finding(Grade.GOOD, said)


def skipped(why: str) -> Finding:
    return Finding(Grade.SKIPPED, why)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    run: Callable[[Client], Awaitable[Finding]]
    #: How many requests it makes at most.
    requests: int = 1
    #: Whether no other check would tell more where events are not acknowledged here.
    is_first: bool = False


def checks(effort: Effort, samples: Samples) -> tuple[Check, ...]:
    event, raw = samples.event, samples.raw
    thousand = [f"probe-{number}" for number in range(1000)]
    scripts = {"event_type": "证书🎫", "event_key": "证书.🎫", "changes": ["编号-一", "🙂"]}
    form = raw(b"event_source=a&changes=", "application/x-www-form-urlencoded")

    def signed(how: Signed) -> Sequence[Sample]:
        return [replace(event(), signed=how)]

    stale = [replace(event(), age=age) for age in (_STALE, -_STALE)]
    return (
        Check("tls", tls, 0, is_first=True),
        Check("redirects", redirects, is_first=True),
        Check("answers", answers, is_first=True),
        Check("timing", timing, effort.requests),
        _takes("twice", [event()] * 2),
        _takes("no-changes", [event(changes=[])]),
        _takes("no-key", [event(event_key=key) for key in (..., None, "")]),
        _takes("unknown-fields", [event(tenant="t", trace={"a": [1]})]),
        _takes("scripts", [event(**scripts)]),
        _takes("many-ids", [event(changes=thousand)]),
        _takes("large-body", [samples.large()]),
        _signed(_refuses("unsigned", signed("not"), (401,))),
        _signed(_refuses("wrong-signature", signed("wrong"), (401,))),
        _signed(_refuses("stale", stale, (401,))),
        _signed(_takes("rotated", signed("rotated"))),
        Check("method", method),
        _refuses("content-type", [form]),
        _refuses("broken-json", [raw(b""), raw(b'{"event_source":"a",')]),
        Check("keep-alive", keep_alive, 3),
        Check("closing", closing),
        Check("at-once", at_once, effort.at_once),
    )


def _takes(name: str, samples: Sequence[Sample]) -> Check:
    """Events that are awkward, and right: each has to be acknowledged."""

    async def run(client: Client) -> Finding:
        words = client.words
        for sample in samples:
            attempt = (await client.send(sample)).attempt
            if not attempt.acknowledged:
                return unacknowledged(words, attempt, words(name), words(f"{name}.mend"))
        return good(answer_of(words, attempt))

    return Check(name, run, len(samples))


def _refuses(name: str, samples: Sequence[Sample], statuses: Collection[int] = _FAULTS) -> Check:
    """Requests that have to be refused, by one of these."""

    async def run(client: Client) -> Finding:
        for sample in samples:
            attempt = (await client.send(sample)).attempt
            finding = _refusal(client.words, name, attempt, statuses)
            if finding.grade is Grade.BREACH:
                break
        return finding

    return Check(name, run, len(samples))


def _signed(check: Check) -> Check:
    """It tells something only where there is a secret."""

    async def run(client: Client) -> Finding:
        return (
            await check.run(client) if client.target.secret else skipped(client.words("no secret"))
        )

    return replace(check, run=run)


def unacknowledged(words: Wording, attempt: Attempt, what: str, mend: str = "") -> Finding:
    """The breach of who should have acknowledged: `what`, and how it was answered.

    `mend` is for a receiver that acknowledges other events, whatever became of this one: what
    crashes at a field ends the connection. Where no event is read, it is as the reason needs.
    """
    if not mend or attempt.reason in _UNREAD:
        is_elsewhere = attempt.reason is Reason.STATUS and attempt.status == 404
        mend = words("wrong path") if is_elsewhere else words.get(f"mend.{attempt.reason}")
    said = words("answered", what=what, answer=answer_of(words, attempt))
    return Finding(Grade.BREACH, said, attempt.reason, mend=mend)


def _refusal(words: Wording, name: str, attempt: Attempt, statuses: Collection[int]) -> Finding:
    """Good where it is one of these: the HTTP status, or the contract's code where that is always
    200."""
    code = int(attempt.code) if attempt.code.isascii() and attempt.code.isdigit() else None
    answer = answer_of(words, attempt)
    if not attempt.acknowledged and (attempt.status in statuses or code in statuses):
        return good(words("refused", answer=answer))
    if attempt.acknowledged:
        said = words("trusted", what=words(name))
    else:
        expected = "401" if len(statuses) == 1 else words("a 4xx")
        said = words("not refused", what=words(name), answer=answer, expected=expected)
    then, mend = words("everybody"), words(f"{name}.mend")
    return Finding(Grade.BREACH, said, then=then, mend=mend)


def answer_of(words: Wording, attempt: Attempt) -> str:
    """How a request was answered, in a few words."""
    if attempt.acknowledged:
        return words("acknowledged", status=str(attempt.status))
    why = words.get(f"reason.{attempt.reason}")
    if attempt.detail:
        why = words("detail", reason=why, detail=attempt.detail)
    status = f"HTTP {attempt.status}" if attempt.status else ""
    return words("comma").join(filter(None, (status, why, attempt.msg)))


def _found(words: Wording, name: str, grade: Grade = Grade.BREACH, **values: str) -> Finding:
    """By the words of that name; the event itself is acknowledged."""
    then, mend = words(f"{name}.then"), words(f"{name}.mend")
    return Finding(grade, words(name, **values), then=then, mend=mend)


# Answers to plain events.


async def redirects(client: Client) -> Finding:
    words, attempt = client.words, (await client.send(client.samples.event())).attempt
    if attempt.reason is Reason.REDIRECT:
        return unacknowledged(words, attempt, words("redirects"))
    if attempt.status is None:
        return skipped(words("redirects.unanswered", answer=answer_of(words, attempt)))
    return good(words("redirects.none", answer=answer_of(words, attempt)))


async def answers(client: Client) -> Finding:
    words, (result, attempt, _) = client.words, await client.send(client.samples.event())
    if not attempt.acknowledged:
        mend = words("answers.mend") if attempt.status in (401, 403) else ""
        return unacknowledged(words, attempt, words("answers"), mend)
    if client.target.acknowledge == "code" and isinstance(result, Answer):
        told = parse_json(result.body, ANSWER)
        others = {name: told.get(name) for name in ("msg", "request_id")}
        wrong = [name for name, said in others.items() if not isinstance(said, str | None)]
        if wrong:
            return _found(words, "no string", names=", ".join(wrong))
    ms = str(milliseconds(attempt.seconds))
    return good(words("answers.took", answer=answer_of(words, attempt), ms=ms))


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


# Connections: TLS, and whether one can be used again, and ends in order.


async def tls(client: Client) -> Finding:
    words = client.words
    if not client.target.url.lower().startswith("https:"):
        return skipped(words("tls.http"))
    connection = await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("tls"))
    if not connection.certificate:
        return good(words("tls.unseen"))
    end = ssl.cert_time_to_seconds(connection.certificate["notAfter"])
    days = (end - time.time()) / 86400
    if days >= _LEAST_DAYS:
        return good(words("tls.good", days=f"{days:.0f}"))
    return _found(words, "tls.ends", days=f"{days:.1f}")


async def method(client: Client) -> Finding:
    words, connection = client.words, await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("no connection"))
    attempt = (await client.ask(connection, client.samples.raw(b""), b"GET")).attempt
    return _refusal(words, "method", attempt, (*_FAULTS, _NOT_IMPLEMENTED))


async def keep_alive(client: Client) -> Finding:
    """An event, and after a rest a refusal and one more event, by one connection as long as the
    answers let it live."""
    words, connection = client.words, await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("no connection"))
    _, attempt, lives = await client.ask(connection, client.samples.event())
    if not attempt.acknowledged:
        return unacknowledged(words, attempt, words("keep-alive"))
    if not lives:
        return good(words("keep-alive.none"))
    if await _ended(connection, client.effort.idle):
        return _found(words, "keep-alive.ends", idle=f"{client.effort.idle:g}")
    if not (await client.ask(connection, client.samples.raw(b'{"event_source"'))).lives:
        return good(words("keep-alive.refusal"))
    attempt = (await client.ask(connection, client.samples.event())).attempt
    if not attempt.acknowledged:
        found = unacknowledged(words, attempt, words("keep-alive.left over"))
        return replace(found, mend=words("keep-alive.left over.mend"))
    return good(words("keep-alive.good"))


async def closing(client: Client) -> Finding:
    words, connection = client.words, await client.connect()
    if isinstance(connection, Failure):
        return unacknowledged(words, client.judged(connection), words("no connection"))
    sample = replace(client.samples.event(), lines=b"connection: close\r\n")
    attempt = (await client.ask(connection, sample)).attempt
    if not attempt.acknowledged:
        return unacknowledged(words, attempt, words("closing"))
    if await _ended(connection, min(1.0, client.target.timeout)):
        return good(words("closing.good"))
    return _found(words, "closing.stays", Grade.WARNING)


async def _ended(connection: TargetConnection, seconds: float) -> bool:
    """Whether it ends within so many seconds, or has already."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while connection.is_idle and clock() < until:  # noqa: ASYNC110 - its end tells nobody else
        await asyncio.sleep(_LOOK)
    return not connection.is_idle
