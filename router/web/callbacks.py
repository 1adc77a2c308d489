"""The callback path: bytes in, reply out, and one log line per event."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from router.config import Config
from router.errors import Refused
from router.forwarder import Delivery, Forwarder, Outcome
from router.intake import Intake
from router.log import Log
from router.model import Event
from router.routes import Plan
from router.sender import Envelope
from router.web import replies
from router.web.call import Call, HungUp, Message, Receive, Send, refused
from router.web.replies import Reply

#: Bodies above this size, in bytes, are read in a thread: parsing 1 MiB takes the standard
#: library about 10 ms, and checking it by an operator's schema may take far longer.
LARGE = 64 * 1024


class Callbacks:
    """The ASGI application behind the callback path, for POST only."""

    def __init__(
        self,
        config: Config,
        intake: Intake,
        forwarder: Forwarder,
        log: Log,
        *,
        max_body: int,
        max_requests: int,
    ) -> None:
        #: The configuration in force; a request keeps the one it started with.
        self.config = config
        self._intake = intake
        self._forwarder = forwarder
        self._log = log
        self._max_body = max_body
        self._max_requests = max_requests
        self._in_flight = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one callback, and return when its last attempt is over and logged."""
        call, config = Call(scope, receive, send), self.config
        try:
            handled = await self.receive(call, config)
        except Exception as error:  # noqa: BLE001 - a fault of ours is a 500, whatever it is
            self._log.error("fault", request_id=call.request_id, at=_place(error))
            await _reply(call, replies.FAILED, config)
            return
        if handled is not None:
            await self._see_through(call, *handled)

    async def receive(self, call: Call, config: Config) -> tuple[Plan, Outcome] | None:
        """Take one callback in and reply to it; None where nothing was forwarded."""
        try:
            body = await self._body(call)
            with self._counted():
                return await self._handle(call, await self._read(body), config)
        except Refused as error:
            await _reply(call, replies.reply_to_refused(error), config)
            self._log.warning("refused", **_reply_fields(call), why=str(error))
        except HungUp:
            self._log.warning("hung_up", request_id=call.request_id)
        return None

    async def _body(self, call: Call) -> bytes:
        if call.header(b"content-encoding").lower() not in (b"", b"identity"):
            raise refused(replies.ENCODED, "a content-encoding")
        return await call.body(self._max_body)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """A request is in flight from its last byte on: bodies that trickle in take up no place,
        and the front bounds what they may hold. Raises Refused where there are too many."""
        if self._in_flight >= self._max_requests:
            raise refused(replies.BUSY, "too many requests in flight")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _read(self, body: bytes) -> Event:
        if len(body) > LARGE:
            return await asyncio.to_thread(self._intake.read, body)
        return self._intake.read(body)

    async def _handle(
        self, call: Call, event: Event, config: Config
    ) -> tuple[Plan, Outcome] | None:
        """Decide and reply."""
        plan = config.table.match(event)
        if plan.routes:
            return plan, await self._forward(call, event, plan, config)
        await _reply(call, replies.reply_to_unmatched(config.unmatched == "accept"), config)
        self._log.warning("unmatched", **_reply_fields(call), **_event_fields(event))
        return None

    async def _forward(self, call: Call, event: Event, plan: Plan, config: Config) -> Outcome:
        envelope = Envelope(event, str(uuid4()), call.request_id, call.traceparent)
        deadline = call.started + config.ebaas.reply_within
        outcome = await self._forwarder.forward(envelope, plan, deadline)
        await _reply(call, replies.reply_to(outcome), config)
        return outcome

    async def _see_through(self, call: Call, plan: Plan, outcome: Outcome) -> None:
        """Wait for the attempts that outlive the reply, then log how the event went."""
        try:
            await outcome.over()
        except Exception as error:  # noqa: BLE001 - its event still gets its line
            self._log.error("fault", request_id=call.request_id, at=_place(error))
        event_id = outcome.envelope.event_id
        self._log.info(
            "event",
            **_reply_fields(call),
            event_id=event_id,
            targets={d.target.name: _delivery_fields(d) for d in outcome.deliveries},
            routes=[route.name for route in plan.routes],
            **_event_fields(outcome.envelope.event),
        )
        for delivery in outcome.lost:
            target = delivery.target
            self._log.warning("lost", event_id=event_id, target=target.name, owner=target.owner)


async def _reply(call: Call, reply: Reply, config: Config) -> None:
    """`http_status: ok` is for callers that can't read a body beside an error status."""
    await call.reply(reply, 200 if config.ebaas.http_status == "ok" else reply.status)


def _reply_fields(call: Call) -> dict[str, Any]:
    code = call.replied.code if call.replied else ""
    return {"code": code, "ms": _ms(call.seconds), "request_id": call.request_id}


def _event_fields(event: Event) -> dict[str, Any]:
    fields = {
        "event_key": event.event_key,
        "event_source": event.event_source,
        "event_topic": event.event_topic,
        "event_type": event.event_type,
        "event_status": event.event_status,
        "bytes": len(event.body),
    }
    if event.event_key != event.derived_key:
        fields["derived_key"] = event.derived_key
    return fields


def _delivery_fields(delivery: Delivery) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"as": "required" if delivery.required else "optional"}
    attempt = delivery.attempt
    if attempt is None:
        return {**fields, "reason": "fault"}
    fields |= {"reason": str(attempt.reason), "ms": _ms(attempt.seconds)}
    if attempt.status is not None:
        fields["status"] = attempt.status
    if attempt.detail:
        fields["detail"] = attempt.detail
    if delivery.late:
        fields["late"] = True
    return fields


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _place(error: Exception) -> str:
    """What kind of fault, and where in the code; never its text, which may hold a secret."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno}"
