"""The archive's events, each once, in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from router.archive.reading import Damage, Scan
from router.archive.trace.happenings import ToldCaller, happening
from router.archive.trace.question import Question


def events(
    folder: Path,
    question: Question,
    progress: Callable[[str], None],
    tell: Callable[[str], None],
    damage: Damage,
    concerns: Callable[[ToldCaller], bool] = lambda told: True,
) -> Iterator[ToldCaller]:
    """The first request of each event that fits and `concerns` the caller, the oldest first; of one
    time, in the order of their ids. `damage` counts what can't be read and is left out. Raises
    OSError."""
    needles, since, until = question.needles, question.since, question.until
    scan = Scan(folder, needles, since, until, progress, tell, oldest_first=True, damage=damage)
    known: set[str] = set()
    group: list[ToldCaller] = []
    for line in scan:
        told = _told(line, question, damage)
        if told is None or not concerns(told):
            continue
        if group and told.at != group[0].at:
            yield from _new(group, known)
            group = []
        group.append(told)
    yield from _new(group, known)


def _told(line: bytes, question: Question, damage: Damage) -> ToldCaller | None:
    if not question.may_fit(line):
        return None
    try:
        each = happening(line)
    except ValueError:
        damage.lines += 1
        return None
    return each if isinstance(each, ToldCaller) and question.fits(each) else None


def _new(group: list[ToldCaller], known: set[str]) -> Iterator[ToldCaller]:
    """Those of one time that have not been told before."""
    for told in sorted(group, key=lambda told: (told.event_id, told.request_id)):
        name = told.event_id or told.body or told.request_id
        if name not in known:
            known.add(name)
            yield told
