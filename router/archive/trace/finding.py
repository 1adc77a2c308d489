"""From a question to what fits it, and from one event to its story."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from router.archive.trace.happenings import EventLine, ToldCaller
from router.archive.trace.kept import KeptStory, kept
from router.archive.trace.question import Question
from router.archive.trace.sources import Sources
from router.archive.trace.story import Story, story
from router.store.ops import Dossier, Ops
from router.store.pauses import Pause, paused

#: What is known of an event, and fits.
Match = EventLine | KeptStory


async def matches(
    question: Question, limit: int, sources: Sources, ops: Ops | None
) -> Iterator[Match]:
    """All that fits, the newest first, of one event perhaps more than once: the store is asked for
    `limit` events, the rest is looked for as it is read. Raises StoreFailed; reading them raises
    OSError."""
    stored = await kept(ops, question, limit) if ops is not None else ()
    lines = sources.look(question)
    return heapq.merge(lines, stored, key=lambda each: each.at, reverse=True)


def name_of(match: Match) -> str:
    """The event's id; its request's where no route has matched it."""
    return match.event_id or (match.request_id if isinstance(match, ToldCaller) else "")


async def story_of(match: Match, sources: Sources, ops: Ops | None) -> Story:
    """Raises StoreFailed and OSError."""
    dossier: Dossier | None = None
    pauses: Sequence[Pause] = ()
    if ops is not None and match.event_id:
        dossier, pauses = await ops.dossier(match.event_id), await paused(ops)
    return story(sources.whole(match), dossier, pauses)
