"""Reading the archive: a scan for bytes, the damage met on the way, and an inventory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from router.archive.segments import Segment, found, time_of
from router.archive.trace.lines import CallerInfo, EventLine, happening
from router.archive.trace.question import Question, Word
from router.telemetry.log.lines import stamp, utc

if TYPE_CHECKING:
    from router.archive.trace.finding import KeptStory

#: What a line may be known by.
Needle = bytes | re.Pattern[bytes]

#: How many segments are read ahead, in a thread, while one is looked through.
_AHEAD = 2


@dataclass(slots=True)
class Damage:
    """What a look into an archive could not read. Not frozen: it is being counted."""

    #: Segments that are cut, garbled, or withheld by the system.
    segments: int = 0
    #: Lines that are not what the router writes.
    lines: int = 0

    def __bool__(self) -> bool:
        return bool(self.segments or self.lines)

    def __str__(self) -> str:
        parts = [(self.segments, "segment"), (self.lines, "line")]
        counts = [f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in parts if n]
        return f"the archive is damaged: {' and '.join(counts)} could not be read"


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
        damage: Damage | None = None,
    ) -> None:
        """Only lines with any of the needles, all where there is none. `progress` is told after
        each segment how far it is, `tell` why one can't be read. Raises OSError where the folder
        can't."""
        #: Lines that have a time are read, and counted where they can't be, by the caller.
        self.damage = Damage() if damage is None else damage
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
                    self.damage.segments += not is_whole
                    yield segment, text
                    self._progress(f"segment {of - len(waiting) - len(ahead):,} of {of:,}")
            finally:
                for _, reading in ahead:
                    reading.cancel()

    def _lines(self, text: bytes) -> Iterator[bytes]:
        for line in lines_with(text, self._needles):
            at = time_of(line)
            self.damage.lines += not at
            if at and self._since <= at < self._until:
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


def _next(lines: list[bytes]) -> bytes:
    return time_of(lines[-1])


def _mark(at: float | None) -> bytes:
    """A time as lines have it; None is that of what is still written to."""
    return b"~" if at is None else stamp(at).encode("ascii")


# Quotes within texts are escaped, so none of these can be met inside of one.
_CODES = (b'"happening":"event","code":"', b'"happening":"unmatched","code":"')
_LATER = ("retried", "dead_letter", "lost")
_TARGET = b'":{"as":"'
_BODY = b',"payload":"'


@dataclass(slots=True)
class Inventory:
    """Not frozen: it is being counted. Times are Unix time, in seconds."""

    #: From when to when there is anything; None where there is nothing.
    first: float | None = None
    last: float | None = None
    segments: int = 0
    #: On the disk, and as text, in bytes.
    size: int = 0
    text: int = 0
    #: Lines of requests, by the code of the reply, `""` where the caller was gone.
    codes: Counter[str] = field(default_factory=Counter)
    #: By the targets that their events were for.
    targets: Counter[str] = field(default_factory=Counter)
    #: Of what became of deliveries later, by happening.
    later: Counter[str] = field(default_factory=Counter)
    #: Lines with their event's body.
    bodies: int = 0
    damage: Damage = field(default_factory=Damage)


def inventory(
    folder: Path,
    progress: Callable[[str], None],
    tell: Callable[[str], None],
) -> Inventory:
    """Raises OSError."""
    counted, segments = Inventory(), found(folder)
    for number, segment in enumerate(segments, 1):
        text, is_whole = segment.read(tell)
        counted.segments += 1
        counted.damage.segments += not is_whole
        counted.size += segment.size
        counted.text += len(text)
        for mark in _CODES:
            counted.codes.update(_texts(part[: part.find(b'"')] for part in text.split(mark)[1:]))
        parts = text.split(_TARGET)[:-1]
        counted.targets.update(_texts(part[part.rfind(b'"') + 1 :] for part in parts))
        for what in _LATER:
            counted.later[what] += text.count(b'"happening":"%b"' % what.encode("ascii"))
        counted.bodies += text.count(_BODY)
        progress(f"segment {number:,} of {len(segments):,}")
    if segments:
        counted.first = min(segment.first for segment in segments)
        counted.last = max(segment.newest for segment in segments)
    return counted


def _texts(found: Iterable[bytes]) -> Counter[str]:
    return Counter({each.decode("ascii"): count for each, count in Counter(found).items()})


class InventoryView(TypedDict):
    """What an archive has: the earliest and the latest, and lines by what they say."""

    kind: Literal["archive"]
    first: str | None
    last: str | None
    requests: int
    #: Of the requests, how many have their event's body.
    bodies: int
    #: On the disk, and as text, in bytes.
    size: int
    text: int
    segments: int
    #: Segments of which a part can't be read.
    cut: int
    #: What could not be read, in words; `""` where all could.
    damage: str
    #: Requests by the code of the reply, `""` where the caller was gone.
    codes: dict[str, int]
    targets: dict[str, int]
    later: dict[str, int]


def inventory_shape(counted: Inventory) -> InventoryView:
    return {
        "kind": "archive",
        "first": None if counted.first is None else utc(counted.first),
        "last": None if counted.last is None else utc(counted.last),
        "requests": counted.codes.total(),
        "bodies": counted.bodies,
        "size": counted.size,
        "text": counted.text,
        "segments": counted.segments,
        "cut": counted.damage.segments,
        "damage": str(counted.damage) if counted.damage else "",
        "codes": counted.codes,
        "targets": counted.targets,
        "later": counted.later,
    }


class Sources:
    """Lines that can't be read are skipped and counted, whichever look they are met in."""

    def __init__(
        self,
        archive: Path | None,
        progress: Callable[[str], None] = lambda how_far: None,
        tell: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._archive = archive
        self._progress = progress
        self._tell = tell
        self.skipped = 0
        #: From when on it has anything, by its name; None where it has nothing.
        self.reach: dict[str, float | None] = {}

    def look(self, question: Question) -> Iterator[EventLine]:
        """What fits, the newest first. Raises OSError."""
        if self._archive is None:
            return
        needles, since, until = question.needles, question.since, question.until
        scan = Scan(self._archive, needles, since, until, self._progress, self._tell)
        self.reach["archive"] = scan.reaches_back
        for line in scan:
            yield from self._fitting(line, question)
        self.skipped += scan.damage.segments + scan.damage.lines

    def whole(self, event: EventLine | KeptStory) -> list[EventLine]:
        """All happenings of an event, the oldest first. Raises OSError."""
        if not event.event_id:
            return [event] if isinstance(event, CallerInfo) else []
        question = Question((Word(event.event_id),))
        return [each for each in self.look(question) if each.event_id == event.event_id][::-1]

    def _fitting(self, line: bytes, question: Question) -> Iterator[EventLine]:
        if not question.may_fit(line):
            return
        try:
            each = happening(line)
        except ValueError:
            self.skipped += 1
            return
        if each is not None and question.fits(each):
            yield each
