"""Events as the rows of a table: the newest of each, what EBaaS was told last, and what is open."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from router.archive.trace.finding import Match, matches, name_of
from router.archive.trace.happenings import LateAttempt, ToldCaller
from router.archive.trace.kept import KeptStory
from router.archive.trace.question import Question
from router.archive.trace.sources import Sources
from router.store.ops import Ops
from router.store.promises import State

#: For how many more happenings a row waits for what it has not yet, so that one whose request was
#: long ago holds up no table.
_FURTHER = 5_000

#: What a target's last line says of how it stands.
_LATE = {"dead_letter": State.DEAD, "lost": "lost"}

#: As it stands with a target that still needs something.
_OPEN = {State.DEAD, State.QUEUED, State.AWAITING, "lost", "failed"}


@dataclass(slots=True)
class Row:
    """It grows by older happenings of its event, until it is whole."""

    newest: Match
    #: The last of its requests; None where none that fits has been met.
    told: ToldCaller | None = None
    #: How it stands with each target, as far as is known.
    _standing: dict[str, str] = field(default_factory=dict)

    def add(self, each: Match) -> None:
        match each:
            case ToldCaller():
                self.told = self.told or each
                for one in each.targets:
                    said = "failed" if one.failed else one.skipped
                    self._standing.setdefault(one.target, said)
            case LateAttempt():
                failed = State.QUEUED if each.failed else State.ACKNOWLEDGED
                self._standing.setdefault(each.tried.target, _LATE.get(each.happening, failed))
            case KeptStory():
                for entry in each.entries:
                    later = entry.acknowledged_later_at is not None
                    self._standing[entry.row.target] = "" if later else entry.row.state

    @property
    def is_whole(self) -> bool:
        return self.told is not None

    @property
    def open(self) -> dict[str, str]:
        """How it stands with the targets that still need something, or have failed for good."""
        return {name: said for name, said in sorted(self._standing.items()) if said in _OPEN}


class EventRows:
    """So many at most, each event once, the newest first, as soon as they are whole."""

    def __init__(self, newest: Iterator[Match], limit: int) -> None:
        self._newest = newest
        self._limit = limit
        #: There are more; known once all have been read.
        self.more = False

    def __iter__(self) -> Iterator[Row]:
        known: set[str] = set()
        waiting: deque[tuple[int, str]] = deque()
        unfinished: dict[str, Row] = {}
        for number, each in enumerate(self._newest):
            name = name_of(each)
            if name not in known:
                if len(known) == self._limit:
                    self.more = True
                else:
                    known.add(name)
                    unfinished[name] = Row(each)
                    waiting.append((number, name))
            if name in unfinished:
                unfinished[name].add(each)
            while waiting and _is_ready(unfinished[waiting[0][1]], number - waiting[0][0]):
                yield unfinished.pop(waiting.popleft()[1])
            if self.more and not waiting:
                return
        yield from (unfinished[name] for _, name in waiting)


def _is_ready(row: Row, further: int) -> bool:
    return row.is_whole or further >= _FURTHER


async def rows(question: Question, limit: int, sources: Sources, ops: Ops | None) -> EventRows:
    """Events that fit. Raises StoreFailed; reading them raises OSError."""
    return EventRows(await matches(question, limit + 1, sources, ops), limit)
