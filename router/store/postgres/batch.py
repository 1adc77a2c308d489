"""Calls of one kind: what is asked while one is under way goes together in the next."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from router.store.promises import StoreFailed

#: The most that wait; one more fails at once, so that a server that hangs does not fill memory.
MAX_WAITING = 4096

#: From so many bytes on nothing more goes together with what has them. libpq moves all that is left
#: to send each time that a part of it has gone: 64 MiB hold the loop up for seconds.
ENOUGH = 1024 * 1024

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Job(Generic[Ask, Answer]):
    ask: Ask
    #: On time.monotonic.
    deadline: float
    done: asyncio.Future[Answer]


class Batch(Generic[Ask, Answer]):
    """The first is sent at once; nobody waits for others to come."""

    def __init__(
        self,
        send: Callable[[list[Ask], float], Awaitable[Sequence[Answer | StoreFailed]]],
        most: int,
        size: Callable[[Ask], int] = lambda _: 0,
    ) -> None:
        """`send` takes up to so many and a timeout, and gives as many answers, in order. `size` is
        how many bytes one takes, where that may be a lot."""
        self._send = send
        self._most = most
        self._size = size
        self._waiting: deque[_Job[Ask, Answer]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, ask: Ask, timeout: float) -> Answer:
        """Raises StoreFailed, at the latest when the timeout has passed. What was not sent by then
        is not sent at all."""
        if len(self._waiting) >= MAX_WAITING:
            raise StoreFailed("slow")
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job(ask, time.monotonic() + timeout, done))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        try:
            async with asyncio.timeout(timeout):
                return await done
        except TimeoutError:
            raise StoreFailed("slow") from None

    async def close(self, timeout: float) -> None:
        """Finish what was asked, for so long."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=timeout)

    async def _send_all(self) -> None:
        try:
            while jobs := self._next():
                await self._send_some(jobs)
        finally:
            self._sending = None

    def _next(self) -> list[_Job[Ask, Answer]]:
        jobs: list[_Job[Ask, Answer]] = []
        size = 0
        while self._waiting and len(jobs) < self._most and size < ENOUGH:
            job = self._waiting.popleft()
            if not job.done.done():
                jobs.append(job)
                size += self._size(job.ask)
        return jobs

    async def _send_some(self, jobs: list[_Job[Ask, Answer]]) -> None:
        # A caller with an earlier deadline gives up by itself.
        timeout = max(job.deadline for job in jobs) - time.monotonic()
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._send([job.ask for job in jobs], timeout)
        except Exception as error:  # noqa: BLE001 - whatever it is, each of them has to hear of it
            answers = [error] * len(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if job.done.done():
                continue
            if isinstance(answer, Exception):
                job.done.set_exception(answer)
            else:
                job.done.set_result(answer)
