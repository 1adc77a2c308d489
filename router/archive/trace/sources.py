"""Where is looked: the archive, whose lines come in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from router.archive.reading import Scan
from router.archive.trace.happenings import EventLine, ToldCaller, happening
from router.archive.trace.kept import KeptStory
from router.archive.trace.question import Question, Word


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
        self.skipped += scan.cut

    def whole(self, event: EventLine | KeptStory) -> list[EventLine]:
        """All happenings of an event, the oldest first. Raises OSError."""
        if not event.event_id:
            return [event] if isinstance(event, ToldCaller) else []
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
