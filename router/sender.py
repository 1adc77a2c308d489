"""One attempt to one target: its place, its headers, and what its answer means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from router.metrics import Metrics
from router.model import SUCCESS, Attempt, Event, Reason
from router.places import Places
from router.routes import Target
from router.strictjson import Unreadable, parse
from router.transport import Answer, Engine, Failure, Pool

#: The longest that an attempt waits in line for a place, in seconds. Short, because whoever waits
#: holds a request in flight.
LINE_WAIT = 1.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: The statuses whose `Retry-After` is honoured: too many requests, and unavailable.
_ASK_FOR_TIME = frozenset({429, 503})

#: The most that is repeated of what a target sent, in characters.
_MAX_QUOTED = 32

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event as every one of its targets gets it."""

    event: Event
    #: The same over all attempts; targets see it as `webhook-id`.
    event_id: str
    request_id: str
    #: The caller's W3C trace context, `""` where it sent none that is valid.
    traceparent: str = ""

    def headers(self) -> Headers:
        """The headers that do not depend on the target or the attempt."""
        headers = (
            (b"content-type", b"application/json"),
            (b"x-request-id", self.request_id.encode("ascii")),
            # Percent-encoded, so that no event can write a header of its own.
            (b"x-ebaas-event-key", quote(self.event.event_key, safe="").encode("ascii")),
            (b"webhook-id", self.event_id.encode("ascii")),
        )
        if self.traceparent:
            return (*headers, (b"traceparent", self.traceparent.encode("ascii")))
        return headers


class Sender:
    """Sends to targets; each has connections, places and a line of its own.

    `share` is the most requests that one target may hold, in flight and in line together.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        engine: Engine,
        share: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._share = share
        self._metrics = metrics
        self._clock = clock
        self._lanes: dict[Target, _Lane] = {}
        #: Lanes of targets that are no longer in force, for the requests that started with them.
        self._leaving: dict[Target, _Lane] = {}
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Take these targets into force. One that stays keeps its connections and its places; one
        that goes is still there for requests that have it in their plan, until it is swept."""
        before = {target.name: lane for target, lane in self._lanes.items()}
        lanes = {
            target: self._lanes.get(target)
            or self._leaving.pop(target, None)
            or _Lane(target, self._engine, self._share, before.get(target.name))
            for target in targets
        }
        for target, lane in self._lanes.items():
            if target not in lanes:
                lane.was_idle = False
                self._leaving[target] = lane
        self._lanes = lanes

    async def sweep(self) -> None:
        """Close what targets no longer in force have left, once nothing of theirs is in flight.

        Only at the second sweep that finds a lane idle: a request that has it in its plan may be
        about to begin. Sweeps are further apart than that takes.
        """
        for target, lane in list(self._leaving.items()):
            was_idle, lane.was_idle = lane.was_idle, not lane.in_use
            # Another sweep, or a reload, may have come while this one was closing a pool.
            is_left = self._leaving.get(target) is lane
            if is_left and was_idle and lane.was_idle:
                del self._leaving[target]
                if all(lane.pool is not kept.pool for kept in self._every_lane()):
                    await lane.pool.close()

    def _every_lane(self) -> list[_Lane]:
        return [*self._lanes.values(), *self._leaving.values()]

    async def send(
        self,
        target: Target,
        envelope: Envelope,
        common: Headers,
        gone: asyncio.Future[None] | None = None,
    ) -> Attempt:
        """One attempt, over within the target's timeout. `common` is `envelope.headers()`. It is
        not begun, and is `saturated`, where `gone` is done while it waits for a place."""
        lane = self._lanes.get(target) or self._leaving[target]
        lane.in_use += 1
        lane.was_idle = False
        try:
            attempt = await self._send(lane, target, envelope, common, gone)
        finally:
            lane.in_use -= 1
        self._metrics.of(target.name).attempt(attempt.reason, attempt.seconds)
        return attempt

    def measure(self) -> None:
        """Bring up to date what is read, not counted: the attempts in flight and in line."""
        for target, lane in self._lanes.items():
            numbers = self._metrics.of(target.name)
            numbers.in_flight, numbers.waiting = lane.places.taken, lane.places.waiting
            numbers.limit = lane.limit

    async def _send(
        self,
        lane: _Lane,
        target: Target,
        envelope: Envelope,
        common: Headers,
        gone: asyncio.Future[None] | None,
    ) -> Attempt:
        started = time.monotonic()
        if not await lane.places.take(min(LINE_WAIT, target.timeout), gone):
            return Attempt(Reason.SATURATED, delivered=False, seconds=time.monotonic() - started)
        try:
            stamp = str(int(self._clock())).encode("ascii")
            headers = (*common, (b"webhook-timestamp", stamp), *lane.headers)
            left = target.timeout - (time.monotonic() - started)
            result = await lane.pool.post(headers, envelope.event.body, left)
        finally:
            lane.places.give_back()
        attempt = judge(result, target, time.monotonic() - started)
        if isinstance(result, Answer) and result.retry_after and result.status in _ASK_FOR_TIME:
            return replace(attempt, retry_after=asked_for(result.retry_after, self._clock()))
        return attempt

    async def close(self) -> None:
        """Close all connections; attempts in flight end as `stopped`."""
        for lane in self._every_lane():
            await lane.pool.close()


class _Lane:
    """What one target has for itself. It keeps what it can of the lane it had before a reload."""

    def __init__(self, target: Target, engine: Engine, share: int, before: _Lane | None) -> None:
        #: Attempts that have it in hand: its pool stays open for them.
        self.in_use = 0
        #: Whether the last sweep found it idle, and nobody has used it since.
        self.was_idle = False
        self.limit = min(target.max_in_flight, share)
        self.url = target.url
        if before is None or before.limit != self.limit:
            self.places: Places = Places(self.limit, line=min(self.limit, share - self.limit))
            self.pool: Pool = engine(self.url, self.limit)
        else:
            self.places = before.places
            same = before.url == self.url
            self.pool = before.pool if same else engine(self.url, self.limit)
        self.headers: Headers = (
            (b"x-ebaas-target", target.name.encode("ascii")),
            *(
                (name.encode("ascii"), value.reveal().encode("latin-1"))
                for name, value in target.headers
            ),
        )


def judge(result: Answer | Failure, target: Target, seconds: float) -> Attempt:
    """What an exchange means. Only a plain yes in the target's own terms acknowledges."""
    if isinstance(result, Failure):
        return Attempt(result.reason, result.delivered, seconds, result.status, result.detail)
    reason, detail = _read(result, target)
    return Attempt(reason, True, seconds, result.status, detail)


def asked_for(retry_after: str, now: float) -> float | None:
    """The seconds that a `Retry-After` (RFC 9110: seconds, or a date) asks for from `now`, Unix
    time; None where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _read(answer: Answer, target: Target) -> tuple[Reason, str]:
    if answer.status in _REDIRECTS:
        return Reason.REDIRECT, "redirects are not followed"
    if not 200 <= answer.status < 300:
        return Reason.STATUS, ""
    if target.acknowledge == "status":
        return Reason.ACKNOWLEDGED, ""
    if answer.encoding:
        return Reason.ENCODED, f"content-encoding {_quoted(answer.encoding)}"
    if not answer.body.strip():
        return Reason.EMPTY, ""
    return _read_contract(answer.body)


def _read_contract(body: bytes) -> tuple[Reason, str]:
    try:
        reply = parse(body)
    except Unreadable as error:
        return Reason.NOT_JSON, str(error)
    if not isinstance(reply, dict):
        return Reason.NOT_JSON, "no JSON object"
    if "code" not in reply:
        return Reason.CODE, "no code"
    code = reply["code"]
    if code == SUCCESS:
        return Reason.ACKNOWLEDGED, ""
    if not isinstance(code, str):
        return Reason.CODE, "a code that is no string"
    return Reason.CODE, f"code {_quoted(code)}"


def _quoted(text: str) -> str:
    return ascii(text[:_MAX_QUOTED])
