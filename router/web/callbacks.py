"""The callback path: bytes in, reply out, and one log line per event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from router.config import Config
from router.errors import Refused
from router.forwarder import Forwarder, Outcome
from router.intake import Intake
from router.journal import Journal
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
        journal: Journal,
        *,
        max_body: int,
        max_requests: int,
    ) -> None:
        #: The configuration in force; a request keeps the one it started with.
        self.config = config
        self._intake = intake
        #: Set before the first request: it needs the store, which is opened with the loop.
        self.forwarder: Forwarder
        self._journal = journal
        self._max_body = max_body
        self._max_requests = max_requests
        self.in_flight = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one callback, and return when its last attempt is over and logged."""
        call, config = Call(scope, receive, send), self.config
        try:
            handled = await self.receive(call, config)
        except Exception as error:  # noqa: BLE001 - a fault of ours is a 500, whatever it is
            self._journal.fault(call.request_id, error)
            await _reply(call, replies.FAILED, config)
            return
        if handled is not None:
            await self._see_through(call, *handled, config)

    async def receive(self, call: Call, config: Config) -> tuple[Plan, Outcome] | None:
        """Take one callback in and reply to it; None where nothing was forwarded."""
        try:
            body = await self._body(call)
            with self._counted():
                return await self._handle(call, await self._read(body), config)
        except Refused as error:
            await _reply(call, replies.reply_to_refused(error), config)
            self._journal.refused(call.told, error)
        except HungUp:
            self._journal.hung_up(call.request_id)
        return None

    async def _body(self, call: Call) -> bytes:
        if call.header(b"content-encoding").lower() not in (b"", b"identity"):
            raise refused(replies.ENCODED, "a content-encoding")
        return await call.body(self._max_body)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """A request is in flight from its last byte on: bodies that trickle in take up no place,
        and the front bounds what they may hold. Raises Refused where there are too many."""
        if self.in_flight >= self._max_requests:
            raise refused(replies.BUSY, "too many requests in flight")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

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
        self._journal.unmatched(call.told, event)
        return None

    async def _forward(self, call: Call, event: Event, plan: Plan, config: Config) -> Outcome:
        deadline = call.started + config.ebaas.reply_within
        if time.monotonic() >= deadline:
            # Targets would get it, and there is no time left to answer for it, or to record it.
            raise refused(replies.TOO_SLOW, "the request took longer than reply_within")
        outcome = await self.forwarder.forward(
            Envelope(event, "", call.request_id, call.traceparent),
            plan,
            config.table.targets,
            config.terms,
            deadline=deadline,
            gone=call.gone,
        )
        if not call.gone.done():
            await _reply(call, replies.reply_to(outcome), config)
        return outcome

    async def _see_through(self, call: Call, plan: Plan, outcome: Outcome, config: Config) -> None:
        """Wait for the attempts that outlive the reply, then tell how the event went."""
        try:
            await self.forwarder.see_through(outcome)
        except Exception as error:  # noqa: BLE001 - its event still gets its line
            self._journal.fault(call.request_id, error)
        self._journal.event(call.told, plan, outcome, config)


async def _reply(call: Call, reply: Reply, config: Config) -> None:
    """`http_status: ok` is for callers that can't read a body beside an error status."""
    await call.reply(reply, 200 if config.ebaas.http_status == "ok" else reply.status)
