"""The callback path: bytes in, reply out, and one log line per event."""

from __future__ import annotations

import asyncio
import time

from router.config import Config
from router.door import Door
from router.errors import Refused
from router.forwarder import Forwarder, Outcome
from router.intake import Intake
from router.journal import Journal
from router.model import Event
from router.routes import Plan
from router.sender import Envelope
from router.web import replies
from router.web.call import Call, refused
from router.web.replies import Reply

#: Bodies above this size, in bytes, are read in a thread: parsing 1 MiB takes the standard
#: library about 10 ms, and checking it by an operator's schema may take far longer.
LARGE = 64 * 1024


class Callbacks:
    """What POSTs to the callback path are handled by."""

    def __init__(
        self,
        config: Config,
        door: Door,
        intake: Intake,
        journal: Journal,
        *,
        max_body: int,
        max_requests: int,
    ) -> None:
        #: The configuration in force; a request keeps the one it started with.
        self.config = config
        self.door = door
        self._intake = intake
        #: None until the store has been opened.
        self.forwarder: Forwarder | None = None
        self._journal = journal
        self.max_body = max_body
        self._max_requests = max_requests
        #: Requests from their last byte on, until they are decided: bodies that trickle in take up
        #: no place, and the front bounds what they may hold.
        self.in_flight = 0

    def begin(self, call: Call) -> Callbacks:
        """A callback's head has come. What is refused now has none of its body read."""
        try:
            self._admit(call)
        except Refused as error:
            self._refuse(call, error, self.config)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self._fail(call, error, self.config)
        else:
            call.proceed()
        return self

    def receive(self, call: Call, body: bytes) -> None:
        call.start(self._see_through(call, body, self.config))

    def abandon(self, call: Call) -> None:
        self._journal.hung_up(call.request_id)

    def _admit(self, call: Call) -> None:
        """Raises Refused for whom a request comes from, or for what is wrong with its head."""
        barrier = self.door.barrier(call.peer[0], call.head.fields)
        if barrier is not None:
            reply = replies.NO_TOKEN if barrier.is_token else replies.FORBIDDEN
            caller = self.door.caller(call.peer[0], call.head.fields)
            raise Refused(reply.code, reply.msg, barrier, caller=str(caller or "unknown"))
        if call.header(b"content-encoding").lower() not in (b"", b"identity"):
            raise refused(replies.ENCODED, "a content-encoding")
        self._check_size(call.head.length or 0)

    def _check_size(self, size: int) -> None:
        if size > self.max_body:
            raise refused(replies.TOO_LARGE, f"a body of more than {self.max_body} bytes")

    async def _see_through(self, call: Call, body: bytes, config: Config) -> None:
        """Answer one callback, and return when its last attempt is over and logged."""
        handled = await self._answer(call, body, config)
        if handled is None:
            return
        plan, outcome = handled
        try:
            await self._opened.see_through(outcome)
        except Exception as error:  # noqa: BLE001 - its event still gets its line
            self._journal.fault(call.request_id, error)
        self._journal.event(call.told, plan, outcome, config)

    async def _answer(self, call: Call, body: bytes, config: Config) -> tuple[Plan, Outcome] | None:
        """Reply to one callback; None where nothing was forwarded."""
        self.in_flight += 1
        try:
            if self.in_flight > self._max_requests:
                raise refused(replies.BUSY, "too many requests in flight")
            self._check_size(len(body))
            read = self._intake.read
            event = read(body) if len(body) <= LARGE else await asyncio.to_thread(read, body)
            return await self._handle(call, event, config)
        except Refused as error:
            self._refuse(call, error, config)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self._fail(call, error, config)
        finally:
            self.in_flight -= 1
        return None

    def _refuse(self, call: Call, error: Refused, config: Config) -> None:
        _reply(call, replies.reply_to_refused(error), config)
        self._journal.refused(call.told, error)

    def _fail(self, call: Call, error: Exception, config: Config) -> None:
        """A fault of the router's own."""
        self._journal.fault(call.request_id, error)
        _reply(call, replies.FAILED, config)

    async def _handle(
        self, call: Call, event: Event, config: Config
    ) -> tuple[Plan, Outcome] | None:
        """Decide and reply."""
        plan = config.table.match(event)
        if plan.routes:
            return plan, await self._forward(call, event, plan, config)
        _reply(call, replies.reply_to_unmatched(config.unmatched == "accept"), config)
        self._journal.unmatched(call.told, event)
        return None

    async def _forward(self, call: Call, event: Event, plan: Plan, config: Config) -> Outcome:
        deadline = call.started + config.ebaas.reply_within
        if time.monotonic() >= deadline:
            # Targets would get it, and there is no time left to answer for it, or to record it.
            raise refused(replies.TOO_SLOW, "the request took longer than reply_within")
        outcome = await self._opened.forward(
            Envelope(event, "", call.request_id, *call.trace),
            plan,
            config.table.targets,
            config.terms,
            deadline=deadline,
            gone=call.gone,
        )
        if not call.gone.done():
            _reply(call, replies.reply_to(outcome), config)
        return outcome

    @property
    def _opened(self) -> Forwarder:
        """Raises Refused where the store has not been opened: who is owed what can't be known."""
        if self.forwarder is None:
            raise refused(replies.NOT_OPEN, "the store has not been opened yet")
        return self.forwarder


def _reply(call: Call, reply: Reply, config: Config) -> None:
    """`http_status: ok` is for callers that can't read a body beside an error status."""
    call.reply(reply, 200 if config.ebaas.http_status == "ok" else reply.status)
