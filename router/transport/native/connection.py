"""One connection: what it is doing, and what each of the transport's calls makes of that."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from router.model.event import Reason
from router.net.loops import Timer
from router.transport.addresses import tls_cause
from router.transport.engine import Answer, Failure, T, TargetExchange
from router.transport.native.answer import Incoming, Unfit, in_one_piece

#: The most of a body that is handed to the transport at once. It may keep a copy of that much,
#: where the target does not read.
_PIECE: Final = 64 * 1024

_NOTHING: Final = memoryview(b"")


class Posted(TargetExchange[T]):
    """An exchange by a connection of this engine: its request, and until when it may take."""

    def __init__(self, read: Callable[[Any], T], head: bytes, body: bytes, deadline: float) -> None:
        """`deadline` is by the loop's clock."""
        super().__init__(read)
        self.head = head
        self.body = body
        self.deadline = deadline


class TargetConnection(asyncio.Protocol):
    """A connection that carries one exchange at a time, a request and its answer.

        idle ──begin()──► busy ──whole answer──► idle, or ended where it can't be used again
                           └─── failure, cancelled ───► ended

    While it is busy it may be sending and receiving at once. These hold at any time:

    - Idle, it has nothing unanswered on the wire, and nothing has come beyond the last answer.
      What comes all the same ends it: it can't be the answer to a request that is yet to be sent.
    - Busy, its exchange has yet to end. Whatever ends that does so through `_settle`, and once.
    - A request is written once, and nothing here sends anything again. Once an exchange has begun
      the target may have the request, and that is what its failure says, even of a connection that
      was found ended when it began: a moment later the same end would have met a request on its
      way. One that is known to have ended is not chosen in the first place.
    """

    def __init__(
        self,
        on_idle: Callable[[TargetConnection], None],
        on_end: Callable[[TargetConnection], None],
    ) -> None:
        """`on_idle` is told each time that an exchange leaves it fit for another one."""
        self._on_idle = on_idle
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        #: The loop's clock.
        self._now = self._loop.time
        #: When it was made, and when it became idle.
        self.since = self.idle_since = self._now()
        self._exchange: Posted[Any] | None = None
        #: Its answer, where that comes in several pieces.
        self._incoming: Incoming | None = None
        self._timer = Timer(self._loop, partial(self._fail, Reason.TIMEOUT), self._loop.time)
        #: What of the request has not been handed to the transport.
        self._rest = _NOTHING
        #: Whether the transport holds something that the system has not taken.
        self._is_full = False
        #: Whether something came while it was idle.
        self._spoke_unasked = False

    @property
    def is_busy(self) -> bool:
        return self._exchange is not None

    @property
    def is_idle(self) -> bool:
        """Whether it can take a request, as far as anybody has heard."""
        return self._exchange is None and not self._transport.is_closing()

    def is_fresh(self, idle_since: float, since: float) -> bool:
        """Whether it is idle, has become so and was made later than that, and has nothing unread: a
        target that sends two answers to one request must not have acknowledged the next event."""
        if self._exchange is not None or self._transport.is_closing():
            return False
        is_young = self.idle_since > idle_since and self.since > since
        return is_young and not self._socket.poll(0)

    @property
    def has_unread(self) -> bool:
        """Whether something has come, an end included, that the loop has not read yet."""
        return bool(self._socket.poll(0))

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The target's, as `ssl` has it: None without TLS, empty where nobody has looked at it."""
        shown: dict[str, Any] | None = self._transport.get_extra_info("peercert")
        return shown

    def begin(self, exchange: Posted[Any]) -> None:
        """Send its request and read the answer."""
        if self._transport.is_closing():
            reason = Reason.PROTOCOL if self._spoke_unasked else Reason.RESET
            exchange.end(Failure(reason, delivered=True))
            return
        self._exchange = exchange
        exchange.stop = self.stop
        try:
            self._timer.set(exchange.deadline)
            if len(exchange.body) <= _PIECE:
                self._transport.write(exchange.head + exchange.body)
            else:
                self._transport.write(exchange.head)
                self._rest = memoryview(exchange.body)
                self._send_rest()
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            exchange.fail(error)
            self.stop()

    def close(self) -> None:
        """End an idle connection in order."""
        self._transport.close()

    def stop(self) -> None:
        """End it now, and the exchange with it."""
        self._fail(Reason.STOPPED)
        self._transport.abort()

    # Sending.

    def _send_rest(self) -> None:
        while self._rest and not self._is_full and not self._transport.is_closing():
            piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
            self._transport.write(piece)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._send_rest()
        whole = None if self._incoming is None else self._incoming.whole
        if whole is not None:
            self._finish(*whole)

    # Receiving.

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self._spoke_unasked = True
            self._transport.abort()
            return
        try:
            whole = None
            if self._incoming is None and not self._is_full and not self._rest:
                whole = in_one_piece(data)
            if whole is None:
                incoming = self._incoming = self._incoming or Incoming()
                incoming.feed(data)
                whole = incoming.whole
        except Unfit as unfit:
            self._fail(unfit.reason, unfit.words)
        else:
            if whole is not None:
                self._finish(*whole)

    def eof_received(self) -> None:
        if not self.is_busy:
            return
        try:
            answer = (self._incoming or Incoming()).end()
        except Unfit as unfit:
            self._fail(unfit.reason, unfit.words)
        else:
            self._transport.abort()  # first, so that nobody takes it for idle
            self._finish(answer, False)
            self._fail(Reason.RESET)  # where that has not ended it

    # The ends of an exchange.

    def _finish(self, answer: Answer, is_clean: bool) -> None:
        """End the exchange with its answer; but one that accepts has to wait for the request.

        A target may refuse what it has not read. It can't have accepted it.
        """
        is_sending = self._is_full or len(self._rest) > 0
        if is_sending and answer.status < 300:
            return
        if is_sending or not is_clean:
            self._transport.abort()
        self._settle(answer)

    def _fail(self, reason: Reason, words: str = "") -> None:
        if self.is_busy:
            self._transport.abort()
            status = None if self._incoming is None else self._incoming.status
            self._settle(Failure(reason, True, status, words))

    def _settle(self, result: Answer | Failure) -> None:
        exchange, self._exchange = self._exchange, None
        self._timer.due = math.inf
        self._incoming = None
        self._rest = _NOTHING
        self.idle_since = self._now()
        if not self._transport.is_closing():
            self._on_idle(self)
        if exchange is not None:
            exchange.end(result)

    # The transport's other calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # So that it is full as soon as it holds anything. TLS counts from, plain TCP beyond it.
        is_tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=1 if is_tls else 0)
        self._socket = select.poll()
        self._socket.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.eof_received()  # uvloop's word for a TLS peer that ended without taking leave
        elif isinstance(exc, ssl.SSLError):
            self._fail(*tls_cause(exc))
        else:
            self._fail(Reason.RESET)
        self._timer.end()
        self._on_end(self)
