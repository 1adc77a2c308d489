"""The archive's events, each once, in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from router.archive.reading import Scan
from router.archive.trace.happenings import ToldCaller, happening
from router.archive.trace.question import Question


def events(
    folder: Path,
    question: Question,
    progress: Callable[[str], None],
    tell: Callable[[str], None],
) -> Iterator[ToldCaller]:
    """The first request of each that fits, the oldest first; of one time, in the order of their
    ids. What can't be read is left out. Raises OSError."""
    needles, since, until = question.needles, question.since, question.until
    scan = Scan(folder, needles, since, until, progress, tell, oldest_first=True)
    known: set[str] = set()
    group: list[ToldCaller] = []
    for line in scan:
        told = _told(line, question)
        if told is None:
            continue
        if group and told.at != group[0].at:
            yield from _new(group, known)
            group = []
        group.append(told)
    yield from _new(group, known)


def _told(line: bytes, question: Question) -> ToldCaller | None:
    if not question.may_fit(line):
        return None
    try:
        each = happening(line)
    except ValueError:
        return None
    return each if isinstance(each, ToldCaller) and question.fits(each) else None


def _new(group: list[ToldCaller], known: set[str]) -> Iterator[ToldCaller]:
    """Those of one time that have not been told before."""
    for told in sorted(group, key=lambda told: (told.event_id, told.request_id)):
        name = told.event_id or told.body or told.request_id
        if name not in known:
            known.add(name)
            yield told
