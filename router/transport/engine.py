"""Bytes over HTTP: what an engine is. The engines are interchangeable and share one suite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar, cast

from router.model.event import Reason, Value
from router.net.egress import Egress
from router.net.loops import call_back, report_fault
from router.net.tls import Tls

#: The largest answer body that is read. The contract's own is under 200 bytes; a web
#: framework's error page is under 64 KiB.
MAX_ANSWER: Final = 64 * 1024

#: How long an idle connection is kept. Below the 5 s after which uvicorn and Node.js close
#: theirs, so that a request seldom meets a connection that is just being closed.
KEEP_ALIVE = 4.0


class Answer(Value):
    """A whole HTTP answer to one POST."""

    NAMES: ClassVar[tuple[str, ...]] = ("status", "body", "encoding", "retry_after")
    __slots__ = NAMES

    def __init__(self, status: int, body: bytes, encoding: str = "", retry_after: str = "") -> None:
        self.status = status
        self.body = body
        #: The `content-encoding` header in lower case, `""` where there is none or it is
        #: `identity`.
        self.encoding = encoding
        #: The `retry-after` header as it came, `""` where there is none.
        self.retry_after = retry_after


class Failure(Value):
    """No whole answer came. A target's failure is a value, never an exception."""

    NAMES: ClassVar[tuple[str, ...]] = ("reason", "delivered", "status", "detail")
    __slots__ = NAMES

    def __init__(
        self, reason: Reason, delivered: bool, status: int | None = None, detail: str = ""
    ) -> None:
        self.reason = reason
        #: False only where it is certain that the target saw no whole request.
        self.delivered = delivered
        #: The status line's status where it came before the failure.
        self.status = status
        #: A few words for people; nothing the target sent but its status.
        self.detail = detail


def lines_of(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Headers as they go on the wire, each with its line break: what a pool sends. Such lines may
    be joined. Raises ValueError where one would become two."""
    lines = b"\r\n".join([*map(b": ".join, headers), b""])
    if not len(headers) == lines.count(b"\r") == lines.count(b"\n") or b"\0" in lines:
        raise ValueError("a line break in a header")
    return lines


T = TypeVar("T")


class TargetExchange(Generic[T]):
    """One POST that has begun; in the end, what its `read` makes of the answer, or of the failure.

    `read` is called once, whatever happens, as soon as the result is there. Cancelled, the exchange
    is stopped, and `read` is told a result that nobody hears of.

    It can be awaited and cancelled as a future can, and is none: a future is C, which nothing that
    is compiled can extend, and costs as much as all that is done for the usual answer.
    """

    def __init__(self, read: Callable[[Any], T]) -> None:
        self._read = read
        #: Nothing changes any more.
        self.is_over = False
        #: What it has come to; None until then, and where there is an error.
        self.value: T | None = None
        #: Instead of a value.
        self.error: BaseException | None = None
        self._listeners: list[Callable[[TargetExchange[T]], object]] = []
        #: For engines: breaks off what it has come to; None while that is nothing.
        self.stop: Callable[[], object] | None = None

    @classmethod
    def by(cls, task: asyncio.Task[Any], read: Callable[[Any], T]) -> TargetExchange[T]:
        """The exchange that a task makes. It is heard of a turn of the loop after that."""
        exchange = cls(read)
        exchange.stop = task.cancel
        task.add_done_callback(exchange._end_by)
        return exchange

    def result(self) -> T:
        """What it has come to. Raises the fault of our own that it has ended by,
        asyncio.CancelledError where it was cancelled, and InvalidStateError before its end."""
        if not self.is_over:
            raise asyncio.InvalidStateError("it is not over")
        if self.error is not None:
            raise self.error.with_traceback(None)
        return cast("T", self.value)

    def listen(self, listener: Callable[[TargetExchange[T]], object]) -> None:
        """Call `listener` in the moment that it ends; at once where it has."""
        if self.is_over:
            call_back(listener, self)
        else:
            self._listeners.append(listener)

    def __await__(self) -> Generator[Any, None, T]:
        """Who is cancelled meanwhile cancels it."""
        if not self.is_over:
            over = asyncio.get_running_loop().create_future()
            self.listen(partial(_wake, over))
            try:
                yield from over
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.result()

    def cancel(self) -> bool:
        """False where it was over."""
        if self.is_over:
            return False
        self._end(None, asyncio.CancelledError())
        if self.stop is not None:
            self.stop()
        return True

    def end(self, result: Any) -> None:
        """For engines: tell its result, whether or not anybody still hears it."""
        try:
            value = self._read(result)
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            self.fail(error)
        else:
            if not self.is_over:
                self._end(value, None)

    def fail(self, error: BaseException) -> None:
        """For engines: tell of a fault of our own. It has to be ended all the same."""
        if not self.is_over:
            self._end(None, error)

    def _end(self, value: T | None, error: BaseException | None) -> None:
        self.is_over, self.value, self.error = True, value, error
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            try:
                listener(self)
            except Exception as fault:  # noqa: BLE001 - whatever it is
                report_fault(listener, fault)

    def _end_by(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.fail(asyncio.CancelledError())
        elif error := task.exception():
            self.fail(error)
        else:
            self.end(task.result())
            return
        self.end(Failure(Reason.STOPPED, delivered=True))


def _wake(over: asyncio.Future[None], _: object) -> None:
    if not over.done():
        over.set_result(None)


def as_it_came(result: T) -> T:
    """The `read` of whoever wants no more of it."""
    return result


class Pool(Protocol):
    """The connections to one target. It belongs to one event loop.

    It has no bound of its own: there are as many connections as ever were in use at a time, less
    those that have ended.
    """

    def post(
        self,
        lines: bytes,
        body: bytes,
        timeout: float,
        read: Callable[[Answer | Failure], T],
    ) -> TargetExchange[T]:
        """POST `body` once and read the whole answer, all within `timeout` seconds.

        It begins now or with the loop's next turn. Sends exactly `lines`, which `lines_of` has
        made, and `host` and `content-length` besides; follows no redirect, decodes nothing, keeps
        no cookie, takes no proxy from the environment. What may have been delivered is never sent
        again.
        Cancelling it closes its connection, unless the answer was whole by then. A target's failure
        is a value: an exception is a fault of our own; one that is raised here has begun nothing.
        """
        ...

    async def close(self) -> None:
        """Close every connection; what is in flight fails as `stopped`."""
        ...


#: Makes the pool for a URL, how TLS is spoken to it, and where it may be. Does no I/O.
Engine = Callable[[str, Tls, Egress], Pool]
