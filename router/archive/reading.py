"""Reading the archive: a search through its lines, the damage found on the way, an inventory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from router.archive.segments import Segment, found, time_of
from router.archive.trace.lines import EventLine, parse_line
from router.archive.trace.question import Needle, Question
from router.telemetry.log.lines import stamp, utc

#: Sorts after every time.
_END = b"~"


@dataclass(slots=True)
class Damage:
    """Counts what a search of an archive could not read."""

    #: Segments that are cut, garbled, or that the system refuses to read.
    segments: int = 0
    #: Lines that the router did not write like this.
    lines: int = 0

    def __bool__(self) -> bool:
        return bool(self.segments or self.lines)

    def __str__(self) -> str:
        parts = [(self.segments, "segment"), (self.lines, "line")]
        counts = [f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in parts if n]
        return f"the archive is damaged: {' and '.join(counts)} could not be read"


# Quotes within texts are escaped, so none of these can occur inside a text.
_CODE = re.compile(rb'"happening":"(?:event|unmatched)","code":"([^"]*)"')
_LATER = re.compile(rb'"happening":"(retried|dead_letter|lost)"')
_TARGET = b'":{"as":"'
_BODY = b',"payload":"'


class InventoryView(TypedDict):
    """Counts and times of an archive's lines."""

    kind: Literal["archive"]
    #: The first and the last time; null for an empty archive.
    first: str | None
    last: str | None
    requests: int
    #: Requests whose line has the event's body.
    bodies: int
    #: Bytes on the disk, and as text.
    size: int
    text: int
    segments: int
    #: Segments that can be read only in part.
    cut: int
    #: What could not be read, in words; `""` if everything could.
    damage: str
    #: Requests by the code of the reply; `""` if the caller had hung up.
    codes: dict[str, int]
    #: Requests by target.
    targets: dict[str, int]
    #: Lines about deliveries after their requests, by happening.
    later: dict[str, int]


class Sources:
    """The archive as a source of events. Unreadable lines are skipped and counted."""

    def __init__(
        self,
        archive: Path | None,
        progress: Callable[[str], None] = lambda how_far: None,
        note: Callable[[str], None] = lambda why: None,
    ) -> None:
        """`progress` is called after each segment, `note` with the reason if one is unreadable.
        Without an archive, nothing is found."""
        self._archive = archive
        self._progress = progress
        self._note = note
        self.damage = Damage()
        #: Start of the archive, after a search; None if it is empty. No entry without an archive.
        self.reach: dict[str, float | None] = {}

    @property
    def skipped(self) -> int:
        """The number of segments and lines that could not be read."""
        return self.damage.segments + self.damage.lines

    def look(self, question: Question, *, oldest_first: bool = False) -> Iterator[EventLine]:
        """Yield the lines that fit a question, the newest first. Raises OSError."""
        needles, since, until = question.needles, question.since, question.until
        for text in self.lines(needles, since, until, oldest_first=oldest_first):
            try:
                line = parse_line(text)
            except ValueError:
                self.damage.lines += 1
                continue
            if line is not None and question.fits(line):
                yield line

    def lines(
        self,
        needles: Sequence[Needle] = (),
        since: float | None = None,
        until: float | None = None,
        *,
        oldest_first: bool = False,
    ) -> Iterator[bytes]:
        """Yield the lines with any of the needles, or all lines if there are none. Raises OSError.

        Segments overlap if the clock jumped or several processes wrote them, so their lines are
        merged by time."""
        if self._archive is None:
            return
        earliest = b"" if since is None else _mark(since)
        latest = _mark(until)
        segments = found(self._archive)
        self.reach["archive"] = min((segment.first for segment in segments), default=None)
        segments = [s for s in segments if _mark(s.first) < latest and _mark(s.last) >= earliest]
        if oldest_first:
            segments.sort(key=lambda segment: segment.first)
        #: Lines still to be yielded, by segment; the next one is the last of its list.
        held: list[list[bytes]] = []
        for segment, text in self._texts(segments):
            edge = _mark(segment.first if oldest_first else segment.last)
            yield from _merged(held, edge, oldest_first=oldest_first)
            lines = self._between(lines_with(text, needles), earliest, latest)
            if in_order := sorted(lines, key=time_of, reverse=oldest_first):
                held.append(in_order)
        yield from _merged(held, None, oldest_first=oldest_first)

    def inventory(self) -> InventoryView | None:
        """Count the archive's lines; None without an archive. Raises OSError."""
        if self._archive is None:
            return None
        codes, targets = Counter[str](), Counter[str]()
        later = Counter({"retried": 0, "dead_letter": 0, "lost": 0})
        segments, size, text_size, bodies = found(self._archive), 0, 0, 0
        for segment, text in self._texts(segments):
            size += segment.size
            text_size += len(text)
            bodies += text.count(_BODY)
            for pattern, counts in ((_CODE, codes), (_LATER, later)):
                counts.update(match[1].decode("ascii") for match in pattern.finditer(text))
            before_targets = text.split(_TARGET)[:-1]
            targets.update(part[part.rfind(b'"') + 1 :].decode("ascii") for part in before_targets)
        return {
            "kind": "archive",
            "first": utc(min(segment.first for segment in segments)) if segments else None,
            "last": utc(max(segment.newest for segment in segments)) if segments else None,
            "requests": codes.total(),
            "bodies": bodies,
            "size": size,
            "text": text_size,
            "segments": len(segments),
            "cut": self.damage.segments,
            "damage": str(self.damage) if self.damage else "",
            "codes": codes,
            "targets": targets,
            "later": later,
        }

    def _texts(self, segments: Sequence[Segment]) -> Iterator[tuple[Segment, bytes]]:
        """Read the segments, each while the one before it is searched."""
        reading: Future[tuple[bytes, bool]] | None = None
        with ThreadPoolExecutor(1, "archive") as reader:
            for number, segment in enumerate([*segments, None]):
                following = reader.submit(segment.read, self._note) if segment else None
                if reading is not None:
                    text, is_whole = reading.result()
                    self.damage.segments += not is_whole
                    yield segments[number - 1], text
                    self._progress(f"segment {number:,} of {len(segments):,}")
                reading = following

    def _between(self, lines: Iterable[bytes], earliest: bytes, latest: bytes) -> Iterator[bytes]:
        for line in lines:
            at = time_of(line)
            self.damage.lines += not at
            if at and earliest <= at < latest:
                yield line


def _merged(held: list[list[bytes]], edge: bytes | None, *, oldest_first: bool) -> Iterator[bytes]:
    """Yield lines from several segments in order, up to the edge of the next segment, if any."""
    pick = min if oldest_first else max
    while held:
        lines = pick(held, key=_next_time)
        at = _next_time(lines)
        if edge is not None and not (at <= edge if oldest_first else at >= edge):
            return
        yield lines.pop()
        if not lines:
            held[:] = [rest for rest in held if rest]


def _next_time(lines: list[bytes]) -> bytes:
    return time_of(lines[-1])


def _mark(at: float | None) -> bytes:
    """Format a time as in lines; None is the end of an open segment."""
    return _END if at is None else stamp(at).encode("ascii")


def lines_with(text: bytes, needles: Sequence[Needle]) -> Iterator[bytes]:
    """Yield the lines that contain any of the needles, each once; all lines without needles."""
    if not needles:
        yield from filter(None, text.split(b"\n"))
        return
    starts = sorted({start for needle in needles for start in _starts(text, needle)})
    for start in starts:
        end = text.find(b"\n", start)
        yield text[start : end if end >= 0 else len(text)]


def _starts(text: bytes, needle: Needle) -> Iterator[int]:
    at = _find(text, needle, 0)
    while at >= 0:
        yield text.rfind(b"\n", 0, at) + 1
        end = text.find(b"\n", at)
        at = _find(text, needle, end) if end >= 0 else -1


def _find(text: bytes, needle: Needle, start: int) -> int:
    if isinstance(needle, bytes):
        return text.find(needle, start)
    match = needle.search(text, start)
    return match.start() if match else -1
