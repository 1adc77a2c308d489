"""The archive's lines in order of time: a scan for bytes, which runs at the memory's speed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from router.archive.segments import Segment, found
from router.telemetry.log.lines import stamp

#: Where a line has its time, and what comes before that.
_TIME, _BEFORE = slice(9, 33), b'{"time":"'

#: What a line may be known by.
Needle = bytes | re.Pattern[bytes]

#: How many segments are read ahead, in a thread, while one is looked through.
_AHEAD = 2


class Scan:
    """The lines of one look into an archive. It may be gone through once."""

    def __init__(
        self,
        folder: Path,
        needles: Sequence[Needle],
        since: float | None,
        until: float | None,
        progress: Callable[[str], None],
        tell: Callable[[str], None],
        *,
        oldest_first: bool = False,
    ) -> None:
        """Only lines with any of the needles, all where there is none. `progress` is told after
        each segment how far it is, `tell` why one can't be read. Raises OSError where the folder
        can't."""
        self._progress = progress
        self._tell = tell
        self._needles = needles
        self._since = _mark(since) if since is not None else b""
        self._until = _mark(until) if until is not None else b"~"
        self._oldest_first = oldest_first
        every = found(folder)
        #: From when on there is anything at all; None where there is nothing.
        self.reaches_back = min((segment.first for segment in every), default=None)
        self._segments = [each for each in every if self._may_have(each)]
        if oldest_first:
            self._segments.sort(key=lambda segment: segment.first)
        #: Segments of which a part could not be read.
        self.cut = 0

    def _may_have(self, segment: Segment) -> bool:
        last = segment.last
        return _mark(segment.first) < self._until and (last is None or _mark(last) >= self._since)

    def __iter__(self) -> Iterator[bytes]:
        """The newest first, unless told otherwise."""
        #: What has been found and not yet told, by segment; the next of each is its last.
        held: list[list[bytes]] = []
        for segment, text in self._read():
            edge = _mark(segment.first if self._oldest_first else segment.last)
            yield from self._before(held, edge)
            lines = sorted(self._lines(text), key=time_of, reverse=self._oldest_first)
            if lines:
                held.append(lines)
        yield from self._before(held, None)

    def _before(self, held: list[list[bytes]], edge: bytes | None) -> Iterator[bytes]:
        """What comes before all that a segment with that edge can have; else all there is."""
        pick = min if self._oldest_first else max
        while held:
            lines = pick(held, key=_next)
            at = _next(lines)
            if edge is not None and not (at <= edge if self._oldest_first else at >= edge):
                return
            yield lines.pop()
            if not lines:
                held[:] = [each for each in held if each]

    def _read(self) -> Iterator[tuple[Segment, bytes]]:
        with ThreadPoolExecutor(1, "archive") as reader:
            waiting, of = list(reversed(self._segments)), len(self._segments)
            ahead: list[tuple[Segment, Future[tuple[bytes, bool]]]] = []
            try:
                while waiting or ahead:
                    while waiting and len(ahead) < _AHEAD:
                        segment = waiting.pop()
                        ahead.append((segment, reader.submit(segment.read, self._tell)))
                    segment, reading = ahead.pop(0)
                    text, is_whole = reading.result()
                    self.cut += not is_whole
                    yield segment, text
                    self._progress(f"segment {of - len(waiting) - len(ahead):,} of {of:,}")
            finally:
                for _, reading in ahead:
                    reading.cancel()

    def _lines(self, text: bytes) -> Iterator[bytes]:
        for line in lines_with(text, self._needles):
            at = time_of(line)
            if self._since <= at < self._until:
                yield line


def lines_with(text: bytes, needles: Sequence[Needle]) -> Iterator[bytes]:
    """The lines that have any of these, each once; all where there are none to look for."""
    if not needles:
        yield from filter(None, text.split(b"\n"))
        return
    starts = sorted({start for needle in needles for start in _starts(text, needle)})
    for start in starts:
        end = text.find(b"\n", start)
        yield text[start : end if end >= 0 else len(text)]


def _starts(text: bytes, needle: Needle) -> Iterator[int]:
    at = _place(text, needle, 0)
    while at >= 0:
        yield text.rfind(b"\n", 0, at) + 1
        end = text.find(b"\n", at)
        at = _place(text, needle, end) if end >= 0 else -1


def _place(text: bytes, needle: Needle, start: int) -> int:
    if isinstance(needle, bytes):
        return text.find(needle, start)
    found = needle.search(text, start)
    return found.start() if found else -1


def time_of(line: bytes) -> bytes:
    """As the line has it; nothing for one that is cut."""
    return line[_TIME] if line.startswith(_BEFORE) else b""


def span(text: bytes) -> tuple[float, float] | None:
    """The earliest and the latest time of its lines, which a clock that jumps puts in no order;
    None where none has one."""
    times = [at for line in text.split(b"\n") if (at := time_of(line))]
    with suppress(ValueError):
        return (_seconds(min(times)), _seconds(max(times)))
    return None


def _seconds(at: bytes) -> float:
    return datetime.fromisoformat(at.decode("ascii")).timestamp()


def _next(lines: list[bytes]) -> bytes:
    return time_of(lines[-1])


def _mark(at: float | None) -> bytes:
    """A time as lines have it; None is that of what is still written to."""
    return b"~" if at is None else stamp(at).encode("ascii")
