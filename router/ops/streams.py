"""Live streams: copies of the log's lines for clients of the API.

While a stream is open, the log's new lines are fetched four times a second. Lines for which a
client is too slow are dropped and counted; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from router.archive.trace.lines import CallerInfo, EventLine, parse_line, visible
from router.archive.trace.views import match_view
from router.config.holders import TokenHolder
from router.net.loops import happens
from router.routing.index import Glob
from router.telemetry.log import Log
from router.telemetry.log.lines import utc
from router.telemetry.log.writer import Tap

#: The most streams at a time, and of one team.
STREAMS, TEAM_STREAMS = 16, 4

#: Seconds between two fetches of the log's new lines.
FETCH_EVERY = 0.25

#: The number of lines that are handled before the loop has another turn.
AT_ONCE = 4

#: The seconds without a line after which a stream sends a beat. The page takes a stream without one
#: for three seconds as broken.
BEAT_EVERY = 1.0

#: The most bytes that wait for a slow client.
STREAM_BOUND = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """The filter of one stream; an empty member fits all."""

    holder: TokenHolder
    targets: tuple[str, ...] = ()
    #: The event's key fits any of them.
    keys: tuple[Glob, ...] = ()
    failed: bool = False
    #: True to include the bodies of events.
    bodies: bool = False


class Stream:
    """The chunks that wait for one client."""

    def __init__(self, filter_: StreamFilter) -> None:
        self.filter = filter_
        self._waiting: deque[bytes] = deque()
        self._size = self._dropped = 0
        self._news = asyncio.Event()
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

    def end(self) -> None:
        self._is_over = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks until the stream ends, first a beat: from now on no line is missed."""
        yield _beat()
        while not self._is_over:
            await happens(self._news, BEAT_EVERY)
            self._news.clear()
            yield self._take() or _beat()

    def _take(self) -> bytes:
        waiting, self._waiting, self._size = self._waiting, deque(), 0
        if self._dropped:
            waiting.append(chunk_of("dropped", {"count": self._dropped}))
            self._dropped = 0
        return b"".join(waiting)


class Streams:
    """All open streams."""

    def __init__(self, log: Log, owner_of: Callable[[str], str]) -> None:
        """`owner_of` returns a target's owner."""
        self._log = log
        self._owner_of = owner_of
        self._open: list[Stream] = []
        self._fetching: asyncio.Task[None] | None = None

    def full_for(self, holder: TokenHolder) -> int:
        """Return how many streams are open if the holder may open no more, else 0."""
        own = [one for one in self._open if one.filter.holder.owner == holder.owner]
        if holder.owner and len(own) >= TEAM_STREAMS:
            return len(own)
        return len(self._open) if len(self._open) >= STREAMS else 0

    @contextmanager
    def open(self, filter_: StreamFilter) -> Iterator[Stream]:
        stream = Stream(filter_)
        self._open.append(stream)
        if (tap := self._log.tap) is None:
            tap = self._log.tap = Tap()
            self._fetching = asyncio.create_task(self._fetch(tap))
        tap.bodies = tap.bodies or filter_.bodies  # from now on, not from the next fetch on
        try:
            yield stream
        finally:
            self._open.remove(stream)

    def end(self) -> None:
        """End all streams, so that a stop waits for no client."""
        for stream in self._open:
            stream.end()

    async def _fetch(self, tap: Tap) -> None:
        try:
            while self._open:
                lines, dropped = tap.take(bodies=any(stream.filter.bodies for stream in self._open))
                await self._send(lines, dropped)
                await asyncio.sleep(FETCH_EVERY)
        except Exception:
            # A stream with beats alone would look as if nothing happened.
            self.end()
            raise
        finally:
            self._log.tap = None

    async def _send(self, lines: Sequence[bytes], dropped: int) -> None:
        """Send lines, a few at a time: callbacks may be handled on this loop."""
        for number, line in enumerate(map(_Line, lines), 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            for stream in self._open:
                if chunk := line.chunk_for(stream.filter, self._owner_of):
                    stream.put(chunk)
        if dropped:
            for stream in self._open:
                stream.drop(dropped)


class _Line:
    """A line of the log, parsed once for all streams."""

    def __init__(self, line: bytes) -> None:
        self.fields: dict[str, Any] = json.loads(line)
        #: The event that it is about, if any.
        self.event: EventLine | None = parse_line(line)

    def chunk_for(self, filter_: StreamFilter, owner_of: Callable[[str], str]) -> bytes | None:
        """Return its chunk; None if the filter or the holder excludes it."""
        seen = [name for name in self._targets if filter_.holder.sees(owner_of(name))]
        if not self._fits(filter_, seen) or (filter_.holder.owner and not seen):
            return None
        fields: Mapping[str, Any] = self.fields
        if self.event is not None:
            fields = match_view(visible(self.event, seen), body=filter_.bodies)
        return chunk_of(self.fields["happening"], fields)

    def _fits(self, filter_: StreamFilter, seen: Sequence[str]) -> bool:
        if filter_.targets and not any(name in filter_.targets for name in seen):
            return False
        if self.event is None:
            return not filter_.keys and not (filter_.failed and self.fields["level"] == "info")
        key = self.event.event_key
        return (not filter_.keys or any(keys.matches(key) for keys in filter_.keys)) and (
            not filter_.failed or visible(self.event, seen).failed
        )

    @property
    def _targets(self) -> Sequence[str]:
        if isinstance(self.event, CallerInfo):
            return [result["target"] for result in self.event.results]
        name = self.fields.get("target")
        return [name] if isinstance(name, str) else []


def chunk_of(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event. JSON in ASCII has no line break."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def _beat() -> bytes:
    return chunk_of("beat", {"at": utc(time.time())})
