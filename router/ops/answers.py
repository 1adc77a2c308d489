"""Answers that may be large: made one at a time beside the loop, and read at the client's pace."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from router.ops.problems import Rejected

#: Makes the texts of an answer, in a thread.
Work = Callable[[], Iterable[str]]

#: The bytes of a piece: of an answer that a client does not read, the connection holds two.
PIECE = 64 * 1024

#: The bytes of a small answer; and of larger ones that may wait for one holder, and for all.
SMALL, OWN, ALL = 256 * 1024, 32 * 1024 * 1024, 128 * 1024 * 1024

#: A shorter answer is not worth compressing.
TINY = 1024

#: An answer that took longer than this, in seconds, is given to all who ask within so many times
#: as long.
LONG, SHARED = 0.05, 10.0

#: For how long, in seconds, the loop waits for the interpreter while an answer is made.
_SWITCH = 0.0005


class Answers:
    """All answers of the ops port."""

    def __init__(self) -> None:
        #: One answer is made at a time, and one of each holder waits for that.
        self._turn = asyncio.Lock()
        self._own: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        #: By `asked`: answers that are being made, or are still shared.
        self._made: dict[Hashable, asyncio.Task[list[bytes]]] = {}
        #: Bytes of large answers that wait to be read, by the holder of the token.
        self._unread: Counter[str] = Counter()

    async def make(self, who: str, asked: Hashable, work: Work) -> list[bytes]:
        """Return the pieces of an answer for a holder, which `work` makes in a thread. Requests
        with an equal `asked` share an answer; None is never shared. The work goes on when its
        client disconnects, or a client could start any number at once."""
        task = self._made.get(asked)
        if task is None:
            task = asyncio.create_task(self._make(who, asked, work))
            if asked is not None:
                self._made[asked] = task
        return await asyncio.shield(task)

    async def reply(
        self, request: Request, pieces: list[bytes], kind: str = "application/json"
    ) -> Response:
        """Return the reply to a request; a small one is compressed if the client accepts that.
        Raises Rejected if too many large ones wait for its holder."""
        size, who = sum(map(len, pieces)), request.state.holder.name or ""
        if size <= SMALL:
            # Not as `media_type`, which may add a charset.
            content, headers = b"".join(pieces), {"content-type": kind, "vary": "accept-encoding"}
            if size > TINY and "gzip" in request.headers.get("accept-encoding", ""):
                content = await asyncio.to_thread(gzip.compress, content, 6)
                headers["content-encoding"] = "gzip"
            return Response(content, headers=headers)
        own, every = self._unread[who], self._unread.total()
        if (own and own + size > OWN) or (every and every + size > ALL):
            raise Rejected("unread_answers", mib=round((own or every) / 2**20, 1))
        return _Large(pieces, size, kind, who, self._unread)

    async def _make(self, who: str, asked: Hashable, work: Work) -> list[bytes]:
        took = 0.0
        try:
            async with self._own[who], self._turn:
                pieces, took = await asyncio.to_thread(_timed, work)
                return pieces
        finally:
            keep = SHARED * took if took > LONG else 0.0
            asyncio.get_running_loop().call_later(keep, self._made.pop, asked, None)


class _Large(Response):
    """Sends the next piece when the client has read nearly all of the last one."""

    def __init__(
        self, pieces: list[bytes], size: int, kind: str, who: str, unread: Counter[str]
    ) -> None:
        super().__init__(headers={"content-type": kind, "content-length": str(size)})
        self._pieces, self._size, self._who, self._unread = pieces, size, who, unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._unread[self._who] += self._size
        try:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            self._unread[self._who] -= self._size


def _timed(work: Work) -> tuple[list[bytes], float]:
    """Return the pieces, and the processor's time for them: a busy machine delays each answer."""
    began, before = time.thread_time(), sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        return pieces_of(work), time.thread_time() - began
    finally:
        sys.setswitchinterval(before)


def json_of(value: Any, depth: int = 3) -> Iterator[str]:
    """Yield a value as JSON, down to that depth with a line for each member. Each step is short: an
    encoder that is called once for all does not release the interpreter."""
    if not (depth and value and isinstance(value, dict | list)):
        yield json.dumps(value)
        return
    is_dict = isinstance(value, dict)
    start, end = "{}" if is_dict else "[]"
    for member in value:
        yield f"{start}{json.dumps(member)}:" if is_dict else start
        yield from json_of(value[member] if is_dict else member, depth - 1)
        start = ",\n"
    yield end


def pieces_of(work: Work) -> list[bytes]:
    pieces, part, size = [], list[str](), 0
    for text in work():
        part.append(text)
        size += len(text)
        if size >= PIECE:
            pieces.append("".join(part).encode())
            part, size = [], 0
    return [*pieces, "".join(part).encode()]
