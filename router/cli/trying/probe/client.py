"""Requests to the receiver that is probed: by the router's own engine, judged by its own judge."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from dataclasses import dataclass
from typing import NamedTuple

from router.cli.trying.probe.samples import Sample, Samples
from router.cli.wording import Wording
from router.contract.signing import KEY_PREFIX, Signer
from router.delivery.target.judge import judge
from router.delivery.target.lane import usual_lines
from router.delivery.target.sender import addressed
from router.model.event import Attempt, Event, Letter, new_id
from router.model.secret import Secret
from router.routing.target import Target
from router.transport.engine import Answer, Failure, as_it_came, lines_of
from router.transport.native import NativePool, Posted, TargetConnection, target_and_host

_JSON = b"content-type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Effort:
    """The numbers of those checks that have some."""

    #: How many requests are timed.
    requests: int = 20
    #: How many are sent at a time.
    at_once: int = 20
    #: How long a connection is left alone, in seconds.
    idle: float = 1.0


class Trial(NamedTuple):
    """How one request went: what came, and what the router makes of it."""

    result: Answer | Failure
    attempt: Attempt
    #: Whether the answer let its connection live, where that was asked.
    lives: bool = False


class Client:
    """Sends to one target what the router would, but for what a sample has otherwise.

    It has connections of its own, which end with it.
    """

    def __init__(self, target: Target, samples: Samples, effort: Effort, words: Wording) -> None:
        """`words` are those in which checks tell what they have found."""
        self.words = words
        self.target = target
        self.samples = samples
        self.effort = effort
        self._pool = NativePool(target.url, target.tls, target.egress)
        self._usual = usual_lines(target)
        other = Secret(KEY_PREFIX + base64.b64encode(os.urandom(24)).decode())
        right = target.secret
        by = {"right": right, "rotated": (other, *right), "wrong": (other,)} if right else {}
        self._signers = {signed: Signer(secrets) for signed, secrets in by.items()}

    async def send(self, sample: Sample) -> Trial:
        """One POST, by any connection."""
        lines, started = self._lines(sample), time.perf_counter()
        posted = self._pool.post(lines, sample.body, self.target.timeout, as_it_came)
        return self._judged(await posted, started)

    async def connect(self) -> TargetConnection | Failure:
        """A connection, for `ask`."""
        return await self._pool.open(self._deadline())

    async def ask(
        self, connection: TargetConnection, sample: Sample, method: bytes = b"POST"
    ) -> Trial:
        """One request by this connection, which has to be idle."""
        path, host = target_and_host(self.target.url)
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, path, host)
        length = b"content-length: %d\r\n\r\n" % len(sample.body)
        head, started = start + self._lines(sample) + length, time.perf_counter()

        def read(result: Answer | Failure) -> Trial:
            return self._judged(result, started)._replace(lives=connection.is_idle)

        exchange = Posted(read, head, sample.body, self._deadline())
        connection.begin(exchange)
        return await exchange

    def judged(self, failure: Failure) -> Attempt:
        """What the router makes of a connection that did not come about."""
        return judge(failure, self.target, 0.0, time.time())

    async def aclose(self) -> None:
        await self._pool.close()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.target.timeout

    def _judged(self, result: Answer | Failure, started: float) -> Trial:
        seconds = time.perf_counter() - started
        return Trial(result, judge(result, self.target, seconds, time.time()))

    def _lines(self, sample: Sample) -> bytes:
        event = Event.of({"event_key": sample.event_key})
        head = addressed(Letter.of(event, new_id()), sample.event_id).head
        head = head.replace(_JSON, lines_of([(b"content-type", sample.content_type.encode())]))
        stamp = b"%d" % (time.time() - sample.age)
        signed = [(b"webhook-timestamp", stamp)]
        signer = self._signers.get(sample.signed)
        if signer is not None:
            signature = signer.sign(sample.event_id.encode(), stamp, sample.body)
            signed.append((b"webhook-signature", signature))
        return head + lines_of(signed) + self._usual + sample.lines
