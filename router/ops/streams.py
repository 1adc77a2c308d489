"""What happens, as it happens: copies of the log's lines for whoever has a stream open.

While a stream is open, the log is asked four times a second for its new lines. Lines that a reader
is too slow for are dropped and counted; nobody is held up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from router.archive.trace.lines import CallerInfo, EventLine, parse_line
from router.archive.trace.views import match_view
from router.config.holders import TokenHolder
from router.net.loops import happens
from router.ops.insight import Insight
from router.routing.index import Glob
from router.telemetry.log.lines import utc
from router.telemetry.log.writer import Tap

#: The most streams at a time, and of one team.
STREAMS, TEAM_STREAMS = 16, 4

#: Seconds between two looks at the log's new lines.
ASK_EVERY = 0.25

#: How many lines are made ready before others have their turn on the loop.
AT_ONCE = 4

#: After how many seconds without anything a stream says that it lives.
BEAT_EVERY = 15.0

#: The most that waits for a slow reader, in bytes.
STREAM_BOUND = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one stream is to have; what is empty fits all."""

    holder: TokenHolder
    targets: tuple[str, ...] = ()
    #: The event's key fits any of them.
    keys: tuple[Glob, ...] = ()
    failed: bool = False
    #: The bodies of events too.
    bodies: bool = False


class Stream:
    """What waits for one reader."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._waiting: deque[bytes] = deque()
        self._size = self._dropped = 0
        self._news = asyncio.Event()
        self._begun = asyncio.Event()
        self._is_over = False

    def put(self, chunk: bytes) -> None:
        if self._size + len(chunk) > STREAM_BOUND:
            self.drop(1)
            return
        self._size += len(chunk)
        self._waiting.append(chunk)
        self._news.set()

    def drop(self, count: int) -> None:
        self._dropped += count
        self._news.set()

    def begin(self) -> None:
        """From now on it misses nothing."""
        self._begun.set()

    def end(self) -> None:
        self._is_over = True
        self._begun.set()
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Until it ends; the first beat says that whatever comes from now on will be heard."""
        await self._begun.wait()
        yield chunk_of("beat", {"at": utc(time.time())})
        while not self._is_over:
            await happens(self._news, BEAT_EVERY)
            self._news.clear()
            chunk = self._take()
            yield chunk or chunk_of("beat", {"at": utc(time.time())})

    def _take(self) -> bytes:
        waiting, self._waiting, self._size = self._waiting, deque(), 0
        if self._dropped:
            waiting.append(chunk_of("dropped", {"count": self._dropped}))
            self._dropped = 0
        return b"".join(waiting)


class Streams:
    """All open streams."""

    def __init__(self, insight: Insight) -> None:
        self._insight = insight
        self._open: list[Stream] = []
        self._asking: asyncio.Task[None] | None = None

    def full_for(self, holder: TokenHolder) -> int:
        """How many are open already, where that is as many as there may be for it; else 0."""
        own = [each for each in self._open if each.wanted.holder.owner == holder.owner]
        if holder.owner and len(own) >= TEAM_STREAMS:
            return len(own)
        return len(self._open) if len(self._open) >= STREAMS else 0

    @contextmanager
    def open(self, wanted: Wanted) -> Iterator[Stream]:
        """A stream, for as long as it is read."""
        stream = Stream(wanted)
        self._open.append(stream)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            yield stream
        finally:
            self._open.remove(stream)

    def end(self) -> None:
        """A stop waits for no reader."""
        for stream in self._open:
            stream.end()

    async def _ask(self) -> None:
        log = self._insight.log
        tap = log.tap = Tap()
        try:
            while self._open:
                await self._ask_once([*self._open], tap)
                await asyncio.sleep(ASK_EVERY)
        except Exception:
            # A stream that only beats would look as if nothing happened.
            self.end()
            raise
        finally:
            log.tap = None

    async def _ask_once(self, listening: Sequence[Stream], tap: Tap) -> None:
        lines, dropped = tap.take(bodies=any(stream.wanted.bodies for stream in listening))
        for stream in listening:
            stream.begin()
        await self._send(lines, dropped)

    async def _send(self, lines: Sequence[bytes], dropped: int) -> None:
        """A few lines at a time: callbacks may be handled on this loop."""
        for number, told in enumerate(map(_Told, lines), 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            for stream in self._open:
                if chunk := told.chunk_for(stream.wanted, self._insight.owner_of):
                    stream.put(chunk)
        if dropped:
            for stream in self._open:
                stream.drop(dropped)


class _Told:
    """A line, read once for all streams."""

    def __init__(self, line: bytes) -> None:
        self.fields: dict[str, Any] = json.loads(line)
        #: What it says of an event; None where it is about something else.
        self.event: EventLine | None = parse_line(line)
        self._chunks: dict[tuple[str, bool], bytes] = {}

    def chunk_for(self, wanted: Wanted, owner_of: Callable[[str], str]) -> bytes | None:
        """None where it is not wanted, or not for this holder."""
        seen = [name for name in self._targets if wanted.holder.sees(owner_of(name))]
        if not self._fits(wanted, seen) or (wanted.holder.owner and not seen):
            return None
        kind = (wanted.holder.owner, wanted.bodies)
        if kind not in self._chunks:
            self._chunks[kind] = self._chunk(seen, bodies=wanted.bodies)
        return self._chunks[kind]

    def _fits(self, wanted: Wanted, seen: Sequence[str]) -> bool:
        if wanted.targets and not any(name in wanted.targets for name in seen):
            return False
        if self.event is None:
            return not wanted.keys and not (wanted.failed and self.fields["level"] == "info")
        key = self.event.event_key
        return (not wanted.keys or any(keys.matches(key) for keys in wanted.keys)) and (
            not wanted.failed or concerning(self.event, seen).failed
        )

    @property
    def _targets(self) -> Sequence[str]:
        """The targets that it is about."""
        if isinstance(self.event, CallerInfo):
            return [each.target for each in self.event.targets]
        name = self.fields.get("target")
        return [name] if isinstance(name, str) else []

    def _chunk(self, seen: Sequence[str], *, bodies: bool) -> bytes:
        event = self.event
        if event is None:
            return chunk_of(self.fields["happening"], self.fields)
        shape = match_view(concerning(event, seen), body=bodies)
        return chunk_of(self.fields["happening"], shape)


def concerning(told: EventLine, seen: Sequence[str]) -> EventLine:
    """An event without what is not about these targets."""
    if not isinstance(told, CallerInfo) or len(seen) == len(told.targets):
        return told
    targets = tuple(each for each in told.targets if each.target in seen)
    return replace(told, targets=targets, routes=())


def chunk_of(what: str, data: Mapping[str, Any]) -> bytes:
    """A server-sent event; JSON in ASCII has no line break."""
    return f"event: {what}\ndata: {json.dumps(data)}\n\n".encode("ascii")
