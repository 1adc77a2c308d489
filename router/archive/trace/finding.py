"""From a question to events, each once, and from one of them to its story."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from router.archive.trace.happenings import Happening, ToldCaller
from router.archive.trace.kept import KeptStory
from router.archive.trace.sources import Sources
from router.archive.trace.story import Story, story
from router.store import Ops

#: An event by the newest that is known of it and fits.
Match = Happening | KeptStory


def matches(lines: Iterator[Happening], kept: Sequence[KeptStory]) -> Iterator[Match]:
    """Each event once, the newest first; both come so."""
    both: Iterator[Match] = heapq.merge(lines, kept, key=lambda each: each.at, reverse=True)
    known: set[str] = set()
    for each in both:
        name = name_of(each)
        if name not in known:
            known.add(name)
            yield each


def name_of(match: Match) -> str:
    """The event's id; its request's where no route has matched it."""
    return match.event_id or (match.request_id if isinstance(match, ToldCaller) else "")


async def story_of(match: Match, sources: Sources, ops: Ops | None) -> Story:
    """Raises StoreFailed and OSError."""
    dossier = await ops.dossier(match.event_id) if ops is not None and match.event_id else None
    return story(sources.whole(match), dossier)
