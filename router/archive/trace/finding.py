"""From a question to events, each once, and from one of them to its story."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from router.archive.trace.happenings import EventLine, ToldCaller
from router.archive.trace.kept import KeptStory, kept
from router.archive.trace.question import Question
from router.archive.trace.sources import Sources
from router.archive.trace.story import Story, story
from router.store import Ops

#: An event by the newest that is known of it and fits.
Match = EventLine | KeptStory


async def matches(
    question: Question, limit: int, sources: Sources, ops: Ops | None
) -> Iterator[Match]:
    """Events that fit, each once, the newest first: the store is asked for `limit` of them, the
    rest is looked for as it is read. Raises StoreFailed; reading them raises OSError."""
    stored = await kept(ops, question, limit) if ops is not None else ()
    lines = sources.look(question)
    return _once(heapq.merge(lines, stored, key=lambda each: each.at, reverse=True))


def _once(newest: Iterator[Match]) -> Iterator[Match]:
    known: set[str] = set()
    for each in newest:
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
