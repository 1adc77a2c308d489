"""Live streams: copies of the log's lines for clients of the API.

While a stream is open, the log's new lines are fetched four times a second. Lines for which a
client is too slow are dropped and counted; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from router.archive.reading import Question
from router.archive.trace.lines import CallerInfo, EventLine, event_line, visible
from router.archive.trace.views import match_view
from router.config.holders import TokenHolder
from router.net.loops import happens
from router.ops.problems import Rejected
from router.routing.index import Glob
from router.telemetry.log import Log
from router.telemetry.log.lines import utc
from router.telemetry.log.writer import Tap

#: The most streams at a time, and of one team.
STREAMS, TEAM_STREAMS = 16, 4

#: Seconds between two fetches of the log's new lines; and without a line, between two beats. After
#: three seconds without one the page takes a stream as broken.
FETCH_EVERY, BEAT_EVERY = 0.25, 1.0

#: The number of lines that are handled before the loop has another turn.
AT_ONCE = 4

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

    def __init__(self, filter_: StreamFilter, close: Callable[[Stream], None]) -> None:
        """`close` is called once nobody reads it any more."""
        self.filter = filter_
        self.close = partial(close, self)
        self._waiting: list[bytes] = []
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
            if self._dropped:
                self._waiting.append(_chunk("dropped", {"count": self._dropped}))
            chunk = b"".join(self._waiting) or _beat()
            self._waiting, self._size, self._dropped = [], 0, 0
            yield chunk


class Streams:
    """All open streams."""

    def __init__(self, log: Log, owner_of: Callable[[str], str]) -> None:
        """`owner_of` returns a target's owner."""
        self._log = log
        self._owner_of = owner_of
        self._open: list[Stream] = []
        self._fetching: asyncio.Task[None] | None = None

    def open(self, filter_: StreamFilter) -> Stream:
        """Open a stream, until it is closed. Raises Rejected if its holder may open no more."""
        owner = filter_.holder.owner
        own = [stream for stream in self._open if stream.filter.holder.owner == owner]
        if len(self._open) >= STREAMS or (owner and len(own) >= TEAM_STREAMS):
            raise Rejected("streams_full", count=len(own if owner else self._open))
        stream = Stream(filter_, self._open.remove)
        self._open.append(stream)
        if (tap := self._log.tap) is None:
            tap = self._log.tap = Tap()
            self._fetching = asyncio.create_task(self._fetch(tap))
        tap.bodies = tap.bodies or filter_.bodies  # from now on, not from the next fetch on
        return stream

    def end(self) -> None:
        """End all streams, so that a stop waits for no client."""
        for stream in self._open:
            stream.end()

    async def _fetch(self, tap: Tap) -> None:
        try:
            while self._open:
                await self._send(tap)
                await asyncio.sleep(FETCH_EVERY)
        except Exception:
            # A stream with beats alone would look as if nothing happened.
            self.end()
            raise
        finally:
            self._log.tap = None

    async def _send(self, tap: Tap) -> None:
        """Send the new lines, a few at a time: callbacks may be handled on this loop."""
        lines, dropped = tap.take(bodies=any(stream.filter.bodies for stream in self._open))
        for number, line in enumerate(lines, 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            fields = json.loads(line)
            event = event_line(fields)
            for stream in self._open:
                if (shown := self._visible(fields, event, stream.filter)) is not None:
                    stream.put(_chunk(fields["happening"], shown))
        for stream in self._open if dropped else ():
            stream.drop(dropped)

    def _visible(
        self, fields: Mapping[str, Any], event: EventLine | None, filter_: StreamFilter
    ) -> Mapping[str, Any] | None:
        """Return a line as a stream shows it, None if the filter or the holder excludes it. `event`
        is the line parsed, if it is about an event."""
        names: Sequence[Any] = [fields.get("target")]
        if isinstance(event, CallerInfo):
            names = [result["target"] for result in event.results]
        seen = [n for n in names if isinstance(n, str) and filter_.holder.sees(self._owner_of(n))]
        is_hidden = filter_.holder.owner and not seen
        if is_hidden or (filter_.targets and not set(seen) & set(filter_.targets)):
            return None
        if event is None:
            is_fit = not filter_.keys and not (filter_.failed and fields["level"] == "info")
            hidden = ("events", "bytes") if filter_.holder.owner else ()  # of all teams
            return {n: v for n, v in fields.items() if n not in hidden} if is_fit else None
        if filter_.keys and not any(keys.matches(event.event_key) for keys in filter_.keys):
            return None
        event = visible(event, seen)
        if filter_.holder.owner and isinstance(event, CallerInfo):
            # It may be about another team's share of the store.
            event = replace(event, view={**event.view, "unqueued": False})
        is_fit = event.failed or not filter_.failed
        return match_view(event, Question(), body=filter_.bodies) if is_fit else None


def _chunk(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event. JSON in ASCII has no line break."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def _beat() -> bytes:
    return _chunk("beat", {"at": utc(time.time())})
