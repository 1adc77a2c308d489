"""Engines: POST over HTTP. The two engines have the same interface and one test suite."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar, cast

from router.model.event import Reason, Value
from router.net.egress import Egress
from router.net.tls import Tls

#: The largest answer body, in bytes. The contract's own is under 200 bytes, a web framework's error
#: page under 64 KiB.
MAX_ANSWER: Final = 64 * 1024

#: The most reads, or chunks, of an answer. Each takes some microseconds, however small it is:
#: 64 KiB in chunks of one byte would block the loop for a third of a second.
MAX_PIECES: Final = 1000

#: How long an idle connection is kept, in seconds. Below the 5 s after which uvicorn and Node.js
#: close theirs, so that a request seldom meets a connection that is just being closed.
KEEP_ALIVE = 4.0


class Answer(Value):
    """A whole HTTP answer to one POST."""

    NAMES: ClassVar[tuple[str, ...]] = ("status", "body", "encoding", "retry_after")
    __slots__ = NAMES

    def __init__(self, status: int, body: bytes, encoding: str = "", retry_after: str = "") -> None:
        self.status = status
        self.body = body
        #: The `content-encoding` header in lower case, `""` for none and for `identity`.
        self.encoding = encoding
        #: The `retry-after` header as it came, `""` for none.
        self.retry_after = retry_after


class Failure(Value):
    """No whole answer came. A target's failure is a value, never an exception."""

    NAMES: ClassVar[tuple[str, ...]] = ("reason", "delivered", "status", "detail")
    __slots__ = NAMES

    def __init__(
        self, reason: Reason, delivered: bool, status: int | None = None, detail: str = ""
    ) -> None:
        self.reason = reason
        #: False only if the target certainly saw no whole request.
        self.delivered = delivered
        #: The status, if it came before the failure.
        self.status = status
        #: A few words for people, which quote nothing that the target sent.
        self.detail = detail


def unsent(reason: Reason, detail: str = "") -> Failure:
    """Return the failure of a request of which the target has seen nothing."""
    return Failure(reason, delivered=False, detail=detail)


def lines_of(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Format headers as a pool sends them, each with its line break; such lines may be joined.

    Raises ValueError for a line break within a header."""
    lines = b"\r\n".join([*map(b": ".join, headers), b""])
    if not len(headers) == lines.count(b"\r") == lines.count(b"\n") or b"\0" in lines:
        raise ValueError("a line break in a header")
    return lines


#: The ports that schemes imply; `host` leaves them out.
_IMPLIED: Final = {"http": ":80", "https": ":443"}


def target_and_host(url: str) -> tuple[bytes, bytes]:
    """Return the request target and the `host` of an absolute URL, as it was written."""
    scheme, _, rest = url.partition("://")
    host = re.split("[/?]", rest, maxsplit=1)[0]
    target = rest.removeprefix(host)
    if not target.startswith("/"):
        target = "/" + target
    host = host.lower().removesuffix(_IMPLIED[scheme.lower()])
    return target.encode("ascii"), host.encode("ascii")


T = TypeVar("T")


class TargetExchange(Generic[T]):
    """A POST that has begun; its value is what `read` returns for the answer, or for the failure.

    `read` is called once, whatever happens, as soon as the result is there, even after a
    cancellation.

    It can be awaited and cancelled like a future, but is not one: a compiled class can't extend
    asyncio's future, and that would cost as much as all other work for the usual answer.
    """

    def __init__(self, read: Callable[[Any], T]) -> None:
        self._read = read
        self.is_over = False
        #: None until it is over, and if there is an error instead.
        self.value: T | None = None
        self.error: BaseException | None = None
        self._listeners: list[Callable[[TargetExchange[T]], object]] = []
        #: Set by engines: stops the work for it.
        self.stop: Callable[[], object] | None = None

    @classmethod
    def by(cls, task: asyncio.Task[Any], read: Callable[[Any], T]) -> TargetExchange[T]:
        """Return the exchange that a task makes; it ends a turn of the loop after the task."""
        exchange = cls(read)
        exchange.stop = task.cancel
        task.add_done_callback(exchange._end_by)
        return exchange

    def result(self) -> T:
        """Return the value. Raises a fault of our own, asyncio.CancelledError if it was cancelled,
        and InvalidStateError before its end."""
        if not self.is_over:
            raise asyncio.InvalidStateError("the exchange is not over")
        if self.error is not None:
            raise self.error.with_traceback(None)
        return cast("T", self.value)

    def listen(self, listener: Callable[[TargetExchange[T]], object]) -> None:
        """Call `listener` at the moment it ends; at once if it has ended."""
        self._listeners.append(listener)
        if self.is_over:
            self._call_listeners()

    def __await__(self) -> Generator[Any, None, T]:
        """Cancelling the wait cancels the exchange."""
        if not self.is_over:
            over = asyncio.Event()
            self.listen(lambda _: over.set())
            try:
                yield from over.wait().__await__()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.result()

    def cancel(self) -> bool:
        """Return False if it was over."""
        if self.is_over:
            return False
        self._end(None, asyncio.CancelledError())
        if self.stop is not None:
            self.stop()
        return True

    def end(self, result: Any) -> None:
        """For engines: end it with a result, which `read` gets even after a cancellation."""
        try:
            value = self._read(result)
        except Exception as error:  # noqa: BLE001 - `result` raises it
            self.fail(error)
        else:
            if not self.is_over:
                self._end(value, None)

    def fail(self, error: BaseException) -> None:
        """For engines: end it with a fault of our own; `end` has to be called all the same."""
        if not self.is_over:
            self._end(None, error)

    def _end(self, value: T | None, error: BaseException | None) -> None:
        self.is_over, self.value, self.error = True, value, error
        self._call_listeners()

    def _call_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            try:
                listener(self)
            except Exception as fault:  # noqa: BLE001 - it does not affect the others
                about = {"message": f"{listener!r} failed", "exception": fault}
                asyncio.get_running_loop().call_exception_handler(about)

    def _end_by(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.fail(asyncio.CancelledError())
        elif error := task.exception():
            self.fail(error)
        else:
            self.end(task.result())
            return
        self.end(Failure(Reason.STOPPED, delivered=True))


def as_it_came(result: T) -> T:
    """The `read` that returns the result itself."""
    return result


class Pool(Protocol):
    """The connections to one target. It belongs to one event loop.

    It has no limit of its own: there are at most as many connections as were in use at a time.
    """

    def post(
        self,
        lines: bytes,
        body: bytes,
        timeout: float,
        read: Callable[[Answer | Failure], T],
    ) -> TargetExchange[T]:
        """POST `body` once and read the whole answer, all within `timeout` seconds.

        It begins now or in the loop's next turn. It sends exactly `lines`, made by `lines_of`, and
        `host` and `content-length`. It follows no redirect, decodes nothing, keeps no cookie, uses
        no proxy from the environment. A request that may have been delivered is never sent again.
        Cancelling it closes its connection, unless the answer was whole by then. A target's failure
        is a value, an exception a fault of our own; if `post` raises, nothing has begun.
        """
        ...

    async def close(self) -> None:
        """Close every connection; exchanges in flight fail as `stopped`."""
        ...


#: Makes the pool for a URL, its TLS and the allowed addresses. Does no I/O.
Engine = Callable[[str, Tls, Egress], Pool]
