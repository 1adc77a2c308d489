"""The callback path: bytes in, reply out, and one log line per event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

from router.config.loading import Config
from router.contract.intake import Intake
from router.contract.replies import (
    ACKNOWLEDGED,
    BUSY,
    ENCODED,
    FAILED,
    FORBIDDEN,
    LOOPING,
    NO_TOKEN,
    NOT_OPEN,
    TOO_LARGE,
    TOO_SLOW,
    Reply,
    reply_to_refused,
)
from router.delivery.forwarder import Forwarder, Outcome
from router.delivery.observer import Observer
from router.model.errors import Refused
from router.model.event import Event, Letter
from router.net.access import Access
from router.routing.table import Plan
from router.web.call import Call, HungUp, Receive, Scope, Send, refused

#: The most routers that an event may have come through: one may be the target of another, but one
#: that is its own target, or that of its target, would send it for ever.
MAX_HOPS = 3


class Callbacks:
    """What POSTs to the callback path are handled by: an ASGI application, called when the head of
    a request is there. What is refused by it has none of its body read."""

    def __init__(
        self,
        config: Config,
        access: Access,
        intake: Intake,
        observer: Observer,
        *,
        max_body: int,
        max_requests: int,
    ) -> None:
        #: The configuration in force; a request keeps the one it started with.
        self.config = config
        self.access = access
        self._intake = intake
        #: Reads what would hold up the loop. One thread: with each more the loop would have to wait
        #: 5 ms longer for its turn at the interpreter, and none would read faster for it.
        self._reader = ThreadPoolExecutor(1, "reader")
        #: None until the store has been opened.
        self.forwarder: Forwarder | None = None
        self._observer = observer
        self.max_body = max_body
        self._max_requests = max_requests
        #: Requests from their last byte on, until they are decided: bodies that trickle in take up
        #: no place, and the connections bound what they may hold.
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one callback, and return when its last attempt is over and logged."""
        call, config = Call(scope, receive, send), self.config
        handled = await self._answer(call, config)
        if handled is None:
            return
        plan, outcome = handled
        try:
            await self._opened.see_through(outcome)
        except Exception as error:  # noqa: BLE001 - its event still gets its line
            self._observer.fault(call.request_id, error)
        self._observer.event(call.told, plan, outcome, config.terms)

    async def _answer(self, call: Call, config: Config) -> tuple[Plan, Outcome] | None:
        """Reply to one callback; None where nothing was forwarded."""
        try:
            self._admit(call)
            body = call.whole
            if body is None:
                body = await call.body(self.max_body)
            return await self._take(call, body, config)
        except HungUp:
            self._observer.hung_up(call.request_id)
        except Refused as error:
            await _reply(call, reply_to_refused(error), config)
            self._observer.refused(call.told, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self._observer.fault(call.request_id, error)
            await _reply(call, FAILED, config)
        finally:
            call.close()
        return None

    def _admit(self, call: Call) -> None:
        """Raises Refused for whom a request comes from, or for what is wrong with its head."""
        denial = self.access.denial(call.peer, call.fields)
        if denial is not None:
            reply = NO_TOKEN if denial.is_token else FORBIDDEN
            caller = self.access.caller(call.peer, call.fields)
            raise Refused(reply.code, reply.msg, denial, caller=str(caller or "unknown"))
        if b"content-encoding" in call.named and not _is_plain(call.fields):
            raise refused(ENCODED, "a content-encoding")
        if call.hops > MAX_HOPS:
            raise refused(LOOPING, f"it has come through more than {MAX_HOPS} routers")
        if int(call.named.get(b"content-length", 0)) > self.max_body:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return refused(TOO_LARGE, f"a body of more than {self.max_body} bytes")

    async def _take(self, call: Call, body: bytes, config: Config) -> tuple[Plan, Outcome] | None:
        """Decide and reply. A callback takes up a place from its body's end until then."""
        self.in_flight += 1
        try:
            if self.in_flight > self._max_requests:
                raise refused(BUSY, "too many requests in flight")
            if len(body) > self.max_body:
                raise self._too_large()
            event = self._intake.read_at_once(body)
            if event is None:
                loop = asyncio.get_running_loop()
                event = await loop.run_in_executor(self._reader, self._intake.read, body)
            plan = config.table.match(event)
            if plan.routes:
                outcome = await self._forward(call, event, plan, config)
                if not call.gone.done():
                    try:
                        await _reply(call, reply_to(outcome), config)
                    except Exception as error:  # noqa: BLE001 - it is seen through all the same
                        call.replied = None  # for all that is known
                        self._observer.fault(call.request_id, error)
                return plan, outcome
            accepted = config.unmatched == "accept"
            await _reply(call, ACKNOWLEDGED if accepted else FAILED, config)
            self._observer.unmatched(call.told, event)
            return None
        finally:
            self.in_flight -= 1

    def _forward(self, call: Call, event: Event, plan: Plan, config: Config) -> Awaitable[Outcome]:
        """Send it to all of its targets. Raises Refused where that must not begin."""
        deadline = call.started + config.ebaas.reply_within
        if time.monotonic() >= deadline:
            # Targets would get it, and there is no time left to answer for it, or to record it.
            raise refused(TOO_SLOW, "the request took longer than reply_within")
        return self._opened.forward(
            Letter.of(event, call.request_id, *call.trace, call.hops),
            plan,
            config.table.targets,
            config.terms,
            deadline=deadline,
            gone=call.gone,
        )

    @property
    def _opened(self) -> Forwarder:
        """Raises Refused where the store has not been opened: who is owed what can't be known."""
        if self.forwarder is None:
            raise refused(NOT_OPEN, "the store has not been opened yet")
        return self.forwarder


def reply_to(outcome: Outcome) -> Reply:
    """`000` only when every required target has acknowledged and nothing is left that is not
    durable; targets are never named."""
    return ACKNOWLEDGED if outcome.settled else FAILED


def _is_plain(fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether no header says that the body is encoded."""
    said = [value.lower() for name, value in fields if name == b"content-encoding"]
    return all(each in (b"", b"identity") for each in said)


def _reply(call: Call, reply: Reply, config: Config) -> Awaitable[None]:
    """`http_status: ok` is for callers that can't read a body beside an error status."""
    return call.reply(reply, 200 if config.ebaas.http_status == "ok" else reply.status)
