"""Searches of the archive and the store.

A search is one of the functions at the end, called with the archive and the store. A router runs it
in a process of its own: a scan takes seconds, and would keep the interpreter from callbacks. A
command runs it in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from subprocess import PIPE
from typing import Annotated, Any, TypedDict, TypeVar

from router.archive.reading import InventoryView, Question, Sources
from router.archive.trace.lines import CallerInfo
from router.archive.trace.replay import Again, id_of, resend
from router.archive.trace.views import MatchView, StoryView, match_view, matches, story_of, table
from router.config.settings import Settings, archive_folder
from router.model.errors import StartFailed
from router.ops.problems import Rejected
from router.store.admin import Admin
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from router.telemetry.log import Log
from router.telemetry.log.lines import utc

R = TypeVar("R")

#: A search, whose result is JSON. It can be pickled, so it is a module's function or a `partial`
#: of one. It raises OSError and StoreFailed.
Work = Callable[[Sources, Admin | None], Awaitable[R]]

#: The number of searches at a time, and the longest one in seconds, its wait included.
SEARCHES, SEARCH_TIMEOUT = 2, 10.0


class Search:
    """Searches, each in a process of its own."""

    def __init__(self, command: Sequence[str], log: Log) -> None:
        """`command` calls `run_search`."""
        self._command = command
        self._log = log
        self._slots = asyncio.Semaphore(SEARCHES)
        #: One search of each team at a time, so that others get their turn in between.
        self._teams: dict[str, asyncio.Lock] = {}

    async def run(
        self, work: Work[R], team: str = "", timeout: float | None = None, *, store: bool = True
    ) -> R:
        """Run a search of a team, `""` for none; `store`: it needs the store. Raises Rejected if it
        fails or takes too long."""
        timeout = timeout or SEARCH_TIMEOUT
        turn = self._teams.setdefault(team, asyncio.Lock()) if team else nullcontext()
        try:
            async with asyncio.timeout(timeout), turn, self._slots:
                result: R = await self._result(pickle.dumps((work, store)))
        except TimeoutError:
            raise Rejected("search_slow", seconds=round(timeout)) from None
        except OSError as error:
            raise Rejected("search_unstarted", why=error.strerror) from None
        return result

    async def _result(self, work: bytes) -> Any:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        try:
            output, errors = await process.communicate(work)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode:
            why = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            self._log.warning("search_failed", why=why)
            raise Rejected("search_failed")
        return json.loads(output)


class SearchHere(Search):
    """Searches in this process, with no limit: for a command that does nothing else."""

    def __init__(
        self, sources: Sources, store: Callable[[], AbstractAsyncContextManager[Admin | None]]
    ) -> None:
        self._sources = sources
        self._store = store

    async def run(self, work: Work[R], *_: Any, **options: Any) -> R:
        async with self._store() as admin:
            return await work(self._sources, admin)


def run_search(settings: Settings) -> None:
    """Read a search from stdin, and write its result to stdout. Raises RouterError."""
    os.nice(5)  # callbacks come first
    work, store = pickle.load(sys.stdin.buffer)  # noqa: S301 - it comes from the router itself
    json.dump(asyncio.run(_run(settings, work, store)), sys.stdout)


async def _run(settings: Settings, work: Work[R], store: bool) -> R:
    folder = archive_folder(settings.archive, settings.store)
    sources = Sources(folder if folder and folder.is_dir() else None)
    admin = None
    if store and settings.store is not None:
        # If the store can't be opened, the archive is searched all the same.
        with contextlib.suppress(StartFailed):
            limits = StoreLimits(settings.store_max_bytes)
            admin = await look_into(settings.store, limits, read_only=True)
    try:
        return await work(sources, admin)
    finally:
        if admin is not None:
            await admin.close()


class LookedInView(TypedDict):
    """A place that was searched, and how far back it reaches."""

    name: str
    #: Null if it has nothing, or everything that is not settled.
    back_to: Annotated[str, ("format", "date-time")] | None


class EventsView(TypedDict):
    """Events, the newest first."""

    events: list[MatchView]
    #: There are more than the limit.
    more: bool
    looked_in: list[LookedInView]
    #: Lines that could not be read.
    skipped: int


async def find_events(
    question: Question, limit: int, body: bool, sources: Sources, admin: Admin | None
) -> EventsView:
    rows, more = table(await matches(question, limit + 1, sources, admin), limit)
    looked_in = []
    if sources.archive is not None:
        back_to = None if sources.start is None else utc(sources.start)
        looked_in.append(LookedInView(name="archive", back_to=back_to))
    if admin is not None:
        looked_in.append(LookedInView(name="store", back_to=None))
    return EventsView(
        events=[match_view(row, question, body=body) for row in rows],
        more=more,
        looked_in=looked_in,
        skipped=sources.damaged_segments + sources.damaged_lines,
    )


async def find_story(
    question: Question, body: bool, sources: Sources, admin: Admin | None
) -> StoryView | None:
    """Return the story of the event whose id the question has."""
    match = next(await matches(question, 1, sources, admin), None)
    return None if match is None else await story_of(match, sources, admin, body=body)


async def find_inventory(sources: Sources, _: Admin | None) -> InventoryView | None:
    return sources.inventory()


class ReplayCounts(TypedDict):
    number: int
    #: When the first and the last of them arrived.
    first: str | None
    last: str | None
    #: The number of lines that are left out, by the reason.
    left_out: dict[str, int]
    #: Parts that could not be read; empty for none.
    damage: str


class ReplayAnswer(TypedDict):
    """One page of the events to replay, or the number of all."""

    #: The arguments of `resend`, and when each event arrived.
    events: list[dict[str, Any]]
    counts: ReplayCounts
    more: bool


#: The most characters of the bodies of one page, without its last.
_PAGE_BYTES = 4 * 1024 * 1024


async def find_replays(
    again: Again, page: int, sources: Sources, _: Admin | None
) -> ReplayAnswer | None:
    """Return up to `page` events in order of time, each once, or count them if it is 0. Return None
    if there is no archive."""
    if sources.archive is None:
        return None
    events: list[dict[str, Any]] = []
    left_out = {"without_body": 0, "targets_cut": 0, "no_event": 0}
    times: list[float] = []
    number = size = 0
    more = False
    for line in again.choose(sources):
        if fault := _fault(again, line):
            left_out[fault] += 1
            continue
        number, times = number + 1, [*times[:1], line.at]
        if page:
            events.append(_replay_event(line))
            size += len(events[-1]["body"])
            if more := number >= page or size > _PAGE_BYTES:
                break
    left_out["damaged_segments"] = sources.damaged_segments
    left_out["damaged_lines"] = sources.damaged_lines
    first, last = (utc(times[0]), utc(times[-1])) if times else (None, None)
    counts = ReplayCounts(
        number=number, first=first, last=last, left_out=left_out, damage=sources.damage
    )
    return ReplayAnswer(events=events, counts=counts, more=more)


def _fault(again: Again, line: CallerInfo) -> str:
    """Return why a line is left out, `""` if it is not."""
    if again.is_unknown(line):
        return "targets_cut"
    if line.body is None:
        return "without_body"
    return "no_event" if resend(**_replay_event(line)) is None else ""


def _replay_event(line: CallerInfo) -> dict[str, Any]:
    return {
        "at": line.at,
        "event_id": id_of(line),
        "request_id": line.view["request_id"],
        "number": line.view["request"],
        "hops": line.hops,
        "body": line.body or "",
    }
