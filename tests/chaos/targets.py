"""The stand-in targets: real sockets that behave by the plan and note what they see."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import time

from tests.chaos.history import History, Seen
from tests.chaos.plan import TIMEOUTS, Mood, Plan
from tests.support.command import http_answer
from tests.support.sockets import reset

_ACKNOWLEDGES = http_answer('{"code":"000","msg":"ok"}')
_FAILS = http_answer('{"code":"500","msg":"no"}')

#: The answer, by mood; other moods write nothing at all.
_ANSWERS = {
    Mood.WELL: _ACKNOWLEDGES,
    Mood.SLOW: _ACKNOWLEDGES,
    Mood.LATE: _ACKNOWLEDGES,
    Mood.TWO_ANSWERS: _ACKNOWLEDGES + _FAILS,
    Mood.CODE: _FAILS,
    Mood.STATUS: http_answer('{"code":"000"}', "503 Busy"),
    Mood.LIES: http_answer('{"status":"done"}'),
    Mood.BREAKS_OFF: _ACKNOWLEDGES[:-5],
}

_ACTS = frozenset(Mood) - {Mood.CODE, Mood.STATUS, Mood.HANGS, Mood.REFUSES}
_HANG = frozenset({Mood.HANGS, Mood.ACTS_AND_HANGS})
_RESET = frozenset({Mood.REFUSES, Mood.ACTS_AND_RESETS})


class Target:
    """One target. It gives one answer for each request, and keeps a connection if all was well."""

    def __init__(self, name: str, plan: Plan, history: History) -> None:
        self.name = name
        self._plan = plan
        self._history = history
        self._times: Counter[int] = Counter()
        #: Faults have an end; what it never takes has none.
        self.calm = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request; return whether the connection can be used again."""
        headers, body = await _request(reader)
        number = int(json.loads(body)["changes"][0])
        mood, pace = self._mood(number)
        seen = Seen(
            self.name,
            number,
            headers["x-request-id"],
            headers["webhook-id"],
            headers["x-ebaas-cause"],
            mood,
            time(),
        )
        self._history.seen.append(seen)
        seen.acted = mood in _ACTS
        try:
            await self._answer(
                mood, pace * self._plan.times.timeout(self.name), seen, reader, writer
            )
        finally:
            seen.ended = time()
        return mood in (Mood.WELL, Mood.CODE)

    def _mood(self, body: int) -> tuple[Mood, float]:
        self._times[body] += 1
        if self._plan.doomed(self.name, body):
            return Mood.CODE, 0.0
        if self.calm:
            return Mood.WELL, 0.0
        since = time() - self._history.began
        if any(begin <= since < end for begin, end in self._plan.outages[self.name]):
            return Mood.REFUSES, 0.0
        return self._plan.mood(self.name, body, self._times[body])

    async def _answer(
        self,
        mood: Mood,
        seconds: float,
        seen: Seen,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if mood in _HANG:
            # Until the other side has had enough.
            await reader.read(1)
            return
        await asyncio.sleep(seconds)
        if mood in _RESET:
            reset(writer)
            return
        stands = not (writer.is_closing() or reader.at_eof())
        writer.write(_ANSWERS[mood])
        await writer.drain()
        seen.acknowledged = stands and _ANSWERS[mood].startswith(_ACKNOWLEDGES)


@asynccontextmanager
async def serving(plan: Plan, history: History) -> AsyncIterator[dict[str, tuple[Target, str]]]:
    targets = {}
    servers = []
    for name in TIMEOUTS:
        target = Target(name, plan, history)
        server = await asyncio.start_server(target, "127.0.0.1", 0, backlog=512)
        servers.append(server)
        targets[name] = (target, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{name}")
    try:
        yield targets
    finally:
        for server in servers:
            server.close()


async def _request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    fields = (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    headers = {name.lower(): value for name, value in fields}
    return headers, await reader.readexactly(int(headers["content-length"]))
