"""Reading the archive: questions, searches through its lines, damage, and an inventory."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

from router.archive.segments import REFUSED, Segment, segments_in, time_of
from router.archive.trace.lines import CallerInfo, EventLine, name_of, parse_line, visible
from router.routing.index import Glob, GlobInvalid
from router.telemetry.log.lines import stamp, utc

#: A pattern that every line of interest contains.
Needle = re.Pattern[bytes]

#: The shortest prefix of a body's hash that is searched for, and the length of it that a line has.
_SHORTEST, _DIGEST = 6, 12

#: Contained in every line that `failed` fits: a happening other than a success, or a reason of an
#: attempt other than `acknowledged`, the only one that begins with an "a".
_FAILED = (
    re.compile(rb'"happening":"(?!(?:event|unmatched)","code":"000"|retried")'),
    re.compile(rb'"reason":"[^a]'),
)

#: The part of an event that a word equals; `""` for none.
MatchedBy = Literal[
    "", "event_id", "event_key", "request_id", "trace_id", "changes", "sha256", "body"
]


@dataclass(frozen=True)
class Word:
    """One WHAT: the id of an event, a request or a trace, a key or a pattern of keys, an id in
    `changes`, or a prefix of the SHA-256 of the body."""

    text: str

    @cached_property
    def keys(self) -> Glob:
        """The text as a pattern of keys; an invalid pattern stands for the key spelled like it."""
        try:
            return Glob(self.text)
        except GlobInvalid:
            return Glob(self.text.replace("[", "[[]"))

    @cached_property
    def literal(self) -> str:
        """A text that every line that fits contains; may be empty."""
        if self._is_digest:
            return self.text[:_DIGEST]
        return _literal_of(self.keys) if len(self.keys.parts) > 1 else self.text

    @property
    def _is_digest(self) -> bool:
        return len(self.text) >= _SHORTEST and not set(self.text) - set("0123456789abcdef")

    def matched(self, line: EventLine) -> MatchedBy:
        """Return by what a line fits; `""` if it does not."""
        if self.text == line.event_id:
            return "event_id"
        if self.keys.matches(line.event_key):
            return "event_key"
        return self._matched_request(line) if isinstance(line, CallerInfo) else ""

    def _matched_request(self, request: CallerInfo) -> MatchedBy:
        text, digest, body = self.text, request.digest, request.body
        if text == request.view["request_id"]:
            return "request_id"
        if text == request.trace_id:
            return "trace_id"
        if text in request.changes:
            return "changes"
        if self._is_digest and digest and digest.startswith(text[: len(digest)]):
            return "sha256"
        if body is None or text not in body:
            return ""
        if text in set(ids_in(body)):
            return "changes"
        return "body" if request.view["what"] == "refused" and is_in(text, body) else ""


def _literal_of(keys: Glob) -> str:
    return max(keys.literals, key=len)


def _as_written(text: str) -> bytes:
    """Return the longest part of a text that lines have unescaped."""
    return max(json.dumps(text)[1:-1].split("\\"), key=len).encode("ascii")


@dataclass(frozen=True)
class Question:
    """The conditions that a line has to meet. An empty field is not a condition."""

    #: Any of the words fits.
    words: tuple[Word, ...] = ()
    #: The event's id, or the request's id if no route matched.
    event_id: str = ""
    #: Any of the patterns matches the event's key.
    keys: tuple[Glob, ...] = ()
    since: float | None = None
    until: float | None = None
    targets: tuple[str, ...] = ()
    #: The reply's code, or a target's code or HTTP status.
    codes: tuple[str, ...] = ()
    failed: bool = False
    #: The only targets whose results count.
    seen: tuple[str, ...] = ()

    @property
    def needles(self) -> tuple[Needle, ...]:
        """Every line that fits contains one of these; none if all lines have to be read."""
        if self.failed:
            # Failures are rarer than lines of a target or with a key.
            return _FAILED
        literals: Iterable[str] = self.targets or self.codes
        if self.event_id:
            literals = (self.event_id,)
        elif self.words:
            literals = (word.literal for word in self.words)
        elif self.keys:
            literals = map(_literal_of, self.keys)
        written = [_as_written(literal) for literal in literals]
        return tuple(re.compile(re.escape(text)) for text in written) if all(written) else ()

    def fits(self, line: EventLine) -> bool:
        """Return whether a line fits, except for its time."""
        if self.seen:
            line = visible(line, self.seen)
        return (
            (not self.event_id or self.event_id == name_of(line))
            and (not self.words or self.matched(line) != "")
            and (not self.keys or any(keys.matches(line.event_key) for keys in self.keys))
            and (not self.targets or any(r["target"] in self.targets for r in line.results))
            and (not self.codes or not self._codes_of(line).isdisjoint(self.codes))
            and (not self.failed or line.failed)
        )

    def matched(self, line: EventLine) -> MatchedBy:
        """Return by what the first word that fits a line fits it; `""` if none does."""
        return next((by for word in self.words if (by := word.matched(line))), "")

    def _codes_of(self, line: EventLine) -> set[str]:
        codes = {line.view["code"], *(result["code"] for result in line.results)}
        return codes | {str(result["status"] or "") for result in line.results}


def is_in(text: str, body: str) -> bool:
    """Return whether a body that need not be JSON has a text as a whole, not as a part of a longer
    id."""
    return re.search(rf"(?<![\w.-]){re.escape(text)}(?![\w.-])", body) is not None


def ids_in(body: str) -> Iterator[str]:
    """Yield every scalar in a body's `changes`, at any depth; nothing for an unreadable body."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        yield from scalars_in(content.get("changes"))


def scalars_in(value: Any) -> Iterator[str]:
    """Yield every scalar in a value of JSON, at any depth, in order, as text."""
    waiting: list[Any] = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, str):
            yield value
        elif value is not None:
            yield json.dumps(value)


#: Sorts after every time.
_END = b"~"


# Quotes within texts are escaped, so none of these can occur inside a text.
_CODE = re.compile(rb'"happening":"(?:event|unmatched|refused)","code":"([^"]*)"')
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
    #: A description of everything that could not be read; `""` for nothing.
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
        self.archive = archive
        self._progress = progress
        self._note = note
        #: Segments that are cut, garbled, or that the system refuses to read; and lines that the
        #: router did not write like this.
        self.damaged_segments = self.damaged_lines = 0
        #: Time of the archive's start, after a search; None if it is empty.
        self.start: float | None = None

    @property
    def damage(self) -> str:
        """A description of everything that could not be read; `""` for nothing."""
        parts = [(self.damaged_segments, "segment"), (self.damaged_lines, "line")]
        counts = [f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in parts if n]
        return f"the archive is damaged: {' and '.join(counts)} could not be read" if counts else ""

    def look(self, question: Question, *, oldest_first: bool = False) -> Iterator[EventLine]:
        """Yield the lines that fit a question, the newest first. Raises OSError."""
        needles, since, until = question.needles, question.since, question.until
        for text in self.lines(needles, since, until, oldest_first=oldest_first):
            try:
                line = parse_line(text)
            except ValueError:
                self.damaged_lines += 1
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
        if self.archive is None:
            return
        earliest = b"" if since is None else _mark(since)
        latest = _mark(until)
        segments = segments_in(self.archive, self.archive / REFUSED)
        self.start = min((segment.first for segment in segments), default=None)
        segments = [s for s in segments if _mark(s.first) < latest and _mark(s.last) >= earliest]
        if oldest_first:
            segments.sort(key=lambda segment: segment.first)
        #: Lines that the next segment may precede. The next line to be yielded is the last.
        held: list[bytes] = []
        for segment, text in self.texts(segments):
            edge = _mark(segment.first if oldest_first else segment.last)
            while held and (
                time_of(held[-1]) <= edge if oldest_first else time_of(held[-1]) >= edge
            ):
                yield held.pop()
            for line in lines_with(text, needles):
                at = time_of(line)
                self.damaged_lines += not at
                if at and earliest <= at < latest:
                    held.append(line)
            held.sort(key=time_of, reverse=oldest_first)
        yield from reversed(held)

    def inventory(self) -> InventoryView | None:
        """Count the archive's lines; None without an archive. Raises OSError."""
        if self.archive is None:
            return None
        codes, targets = Counter[str](), Counter[str]()
        later = Counter({"retried": 0, "dead_letter": 0, "lost": 0})
        segments = segments_in(self.archive, self.archive / REFUSED)
        size = text_size = bodies = 0
        for segment, text in self.texts(segments):
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
            "cut": self.damaged_segments,
            "damage": self.damage,
            "codes": codes,
            "targets": targets,
            "later": later,
        }

    def texts(self, segments: Sequence[Segment]) -> Iterator[tuple[Segment, bytes]]:
        """Read the segments, each while the one before it is searched."""
        with ThreadPoolExecutor(1, "archive") as reader:
            reading = [reader.submit(segment.read, self._note) for segment in segments[:1]]
            for number, segment in enumerate(segments, 1):
                if number < len(segments):
                    reading.append(reader.submit(segments[number].read, self._note))
                text, is_whole = reading.pop(0).result()
                self.damaged_segments += not is_whole
                yield segment, text
                self._progress(f"segment {number:,} of {len(segments):,}")


def _mark(at: float | None) -> bytes:
    """Format a time as in lines; None is the end of an open segment."""
    return _END if at is None else stamp(at).encode("ascii")


def lines_with(text: bytes, needles: Sequence[Needle]) -> Iterator[bytes]:
    """Yield the lines that contain any of the needles, each once; all lines without needles."""
    if not needles:
        yield from filter(None, text.split(b"\n"))
        return
    matches = (match.start() for needle in needles for match in needle.finditer(text))
    for start in sorted({text.rfind(b"\n", 0, at) + 1 for at in matches}):
        end = text.find(b"\n", start)
        yield text[start : end if end >= 0 else len(text)]
