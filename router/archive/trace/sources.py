"""Where is looked: the archive and logs, whose happenings come in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from router.archive.reading import Scan
from router.archive.trace.happenings import EventLine, LateAttempt, ToldCaller, happening
from router.archive.trace.kept import KeptStory
from router.archive.trace.logs import log_lines
from router.archive.trace.question import Question, Word


class TraceSource(NamedTuple):
    """A log that can be read more than once."""

    name: str
    open: Callable[[], IO[bytes]]


class Sources:
    """Lines that can't be read are skipped and counted, whichever look they are met in."""

    def __init__(
        self,
        archive: Path | None,
        logs: Sequence[TraceSource],
        progress: Callable[[str], None] = lambda how_far: None,
        tell: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._archive = archive
        self._logs = logs
        self._progress = progress
        self._tell = tell
        self.skipped = 0
        #: From when on each of them has anything, by name; None where it has nothing. Of a log
        #: only what fits is known.
        self.reach: dict[str, float | None] = {}

    def look(self, question: Question) -> Iterator[EventLine]:
        """What fits, the newest first. Raises OSError."""
        found = [self._archived(question), *(self._logged(log, question) for log in self._logs)]
        newest = heapq.merge(*found, key=lambda each: each.at, reverse=True)
        return _once(newest)

    def whole(self, event: EventLine | KeptStory) -> list[EventLine]:
        """All happenings of an event, the oldest first. Raises OSError."""
        if not event.event_id:
            return [event] if isinstance(event, ToldCaller) else []
        question = Question((Word(event.event_id),))
        return [each for each in self.look(question) if each.event_id == event.event_id][::-1]

    def _archived(self, question: Question) -> Iterator[EventLine]:
        if self._archive is None:
            return
        needles, since, until = question.needles, question.since, question.until
        scan = Scan(self._archive, needles, since, until, self._progress, self._tell)
        self.reach["archive"] = scan.reaches_back
        for line in scan:
            yield from self._fitting(line, question)
        self.skipped += scan.damage.segments + scan.damage.lines

    def _logged(self, log: TraceSource, question: Question) -> Iterator[EventLine]:
        """All of it is held in memory, because a log has the oldest first."""
        self.reach[log.name] = None
        with log.open() as stream:
            lines = log_lines(stream, question.needles, self._progress)
            found = [each for line in lines for each in self._fitting(line, question)]
        found = [each for each in found if _is_within(each, question)]
        found.sort(key=lambda each: each.at, reverse=True)
        if found:
            self.reach[log.name] = found[-1].at
        yield from found

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


def _is_within(each: EventLine, question: Question) -> bool:
    since, until = question.since, question.until
    return (since is None or each.at >= since) and (until is None or each.at < until)


def _once(newest: Iterator[EventLine]) -> Iterator[EventLine]:
    """Each happening once, also where the archive and a log both have it: at the same time then."""
    at, known = 0.0, set[tuple[str, ...]]()
    for each in newest:
        if each.at != at:
            at, known = each.at, set()
        name: tuple[str, ...] = (
            (each.event_id, each.happening, each.tried.target)
            if isinstance(each, LateAttempt)
            else (each.event_id, each.request_id)
        )
        if name not in known:
            known.add(name)
            yield each
