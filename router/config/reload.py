"""Watching routes.yaml, and swapping the configuration: whole or not at all."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from router.config.comparison import Edit, edits_of
from router.config.files import Written
from router.config.loading import Config, Look, Source
from router.model.errors import ConfigInvalid, Problem
from router.net.loops import happens
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.metrics import Metrics

T = TypeVar("T")

#: Seconds between two looks at the file. Polled and compared by content: an inotify watch loses
#: the second of two atomic renames, and a ConfigMap's second swap.
LOOK_EVERY = 2.0

#: Seconds between two looks that have to agree before a content is taken: a file that is being
#: written is often valid up to where the writer has come.
SETTLE = 0.3

#: Seconds after which a configuration that can't be used is complained of again.
REMIND = 300.0

#: The most names that one log line lists.
_MAX_NAMED = 20

#: How many of the last reloads are remembered.
MAX_RELOADS = 20


@dataclass(frozen=True, slots=True)
class Reloaded:
    """One reload that took a configuration into force, or refused one. For pages."""

    #: Unix time, in seconds.
    at: float
    #: Of what was taken; `""` where it was refused.
    hash: str
    #: What is different since then, in words; the first few of many.
    changes: tuple[str, ...] = ()
    #: Why it was refused.
    problems: tuple[str, ...] = ()


class Changes(NamedTuple):
    """What a reload brings; the first few of many."""

    in_words: tuple[str, ...]
    #: Names, by the log line's field.
    by_kind: dict[str, list[str]]


@dataclass(slots=True)
class Standing:
    """Which configuration is in force, and how the last reload went. For logs, metrics, pages."""

    config: Config
    #: When it came in force; Unix time, in seconds.
    since: float
    #: When a reload was last tried, and whether what the file says now is in force.
    tried: float
    successful: bool = True
    problems: tuple[Problem, ...] = ()
    #: The last ones, newest first.
    reloads: deque[Reloaded] = field(default_factory=lambda: deque(maxlen=MAX_RELOADS))


class Reload:
    """Takes a changed configuration into force once it is whole and right.

    A bad one changes nothing but the alarm. `apply` swaps; it is called on the event loop, and
    must not fail. It returns what is dubious about what it took.
    """

    def __init__(
        self,
        watched: tuple[Source, Look] | None,
        standing: Standing,
        apply: Callable[[Config], Iterable[str]],
        sweep: Callable[[], Awaitable[None]],
        log: Log,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_reload: Callable[[Reloaded], None] = lambda _: None,
    ) -> None:
        """`on_reload` gets what was taken into force, and what was refused."""
        self.standing = standing
        self._watched = watched
        self._apply = apply
        self._sweep = sweep
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._on_reload = on_reload
        #: The mark of what was last taken or refused.
        self._seen = watched[1].mark if watched else ""
        self._asked = asyncio.Event()
        self._reminded = clock()
        #: Is told, after a look that was asked for or met a change, whether what the file says now
        #: is in force.
        self.on_look: Callable[[bool], None] = lambda _: None

    def ask(self) -> None:
        """Look now, and say so even if nothing changed: what SIGHUP does."""
        self._asked.set()

    async def run(self) -> None:
        """Look for ever, and sweep up what earlier configurations have left: not where a look was
        asked for, so that two sweeps are further apart than a request's plan and its attempts."""
        while self._watched is not None:
            asked, tried = await self._next_turn(), self.standing.tried
            is_current = await self._looked(self._watched[0], asked)
            if asked or self.standing.tried != tried:
                self.on_look(is_current)
            if not asked:
                await self._sweep()

    async def _next_turn(self) -> bool:
        """Wait for the next look; whether somebody asked for it."""
        if asked := await happens(self._asked, LOOK_EVERY):
            self._asked.clear()
        return asked

    async def _looked(self, source: Source, asked: bool) -> bool:
        """Whether what the file says now is in force."""
        try:
            await self._look(source, asked)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end reloading
            self._log.error("fault", at=place_of(error))
            message = f"can't be taken for a fault of the router: {place_of(error)}"
            problem = Problem(str(source.path), 0, 0, "", message)
            if problem not in self.standing.problems:
                self._refuse((problem,))
            return False
        return self.standing.successful

    async def _look(self, source: Source, asked: bool) -> None:
        look = await asyncio.to_thread(source.look)
        if look.mark != self._seen:
            look = await self._settled(source, look)
        if look.mark != self._seen or (asked and not self.standing.successful):
            self._seen = look.mark
            await self._take(source, look, asked)
        elif asked:
            self._unchanged()
        elif not self.standing.successful and self._clock() - self._reminded > REMIND:
            self._complain(self.standing.problems)

    async def _settled(self, source: Source, look: Look) -> Look:
        """A look that agrees with the one before it."""
        while True:
            await asyncio.sleep(SETTLE)
            again = await asyncio.to_thread(source.look)
            if again.mark == look.mark:
                return again
            look = again

    async def _take(self, source: Source, look: Look, asked: bool) -> None:
        self.standing.tried = time.time()
        try:
            if look.problems:
                raise ConfigInvalid(look.problems)
            loaded, changes = await _without_pauses(partial(self._compare, source, look.files))
        except ConfigInvalid as error:
            self._refuse(error.problems)
            return
        if loaded.hash != self.standing.config.hash:
            self._swap(loaded, changes)
        elif asked or not self.standing.successful:
            self._unchanged()
        self.standing.successful, self.standing.problems = True, ()

    def _refuse(self, problems: tuple[Problem, ...]) -> None:
        self.standing.successful, self.standing.problems = False, problems
        self._remember(Reloaded(self.standing.tried, "", problems=tuple(_few(problems))))
        self._metrics.reloads["refused"] += 1
        self._complain(problems)

    def measure(self) -> None:
        """Bring up to date what the metrics say of the configuration in force."""
        standing, metrics = self.standing, self._metrics
        metrics.configuration = {"hash": standing.config.hash}
        metrics.configuration_since = standing.since
        metrics.reload_successful = int(standing.successful)
        faulty = {problem.file: problem.owner for problem in standing.problems}
        metrics.reload_refused = {
            name: ", ".join(_few(sorted(set(filter(None, values)))))
            for name, values in (("file", faulty), ("owner", faulty.values()))
            if faulty
        }

    def _compare(self, source: Source, files: Sequence[Written]) -> tuple[Config, Changes]:
        """For a thread: the words about 10,000 changed routes would hold the loop for 20 ms."""
        loaded = source.load(files)
        edits = edits_of(self.standing.config, loaded)
        files_changed = _files_changed(self.standing.config, loaded)
        return loaded, Changes(tuple(_few(edits)), {**_named(edits), **files_changed})

    def _unchanged(self) -> None:
        self._metrics.reloads["unchanged"] += 1
        self._log.info("reload", result="unchanged", config=self.standing.config.hash)

    def _swap(self, loaded: Config, changes: Changes) -> None:
        warnings = self._apply(loaded)
        self.standing.config = loaded
        self.standing.since = time.time()
        self._remember(Reloaded(self.standing.since, loaded.hash, changes.in_words))
        self._metrics.reloads["taken"] += 1
        self._log.info("reload", result="taken", config=loaded.hash, **changes.by_kind)
        for problem in warnings:
            self._log.warning("config", problem=problem)

    def _remember(self, reloaded: Reloaded) -> None:
        self.standing.reloads.appendleft(reloaded)
        self._on_reload(reloaded)

    def _complain(self, problems: tuple[Problem, ...]) -> None:
        self._reminded = self._clock()
        owners = _few(sorted({each.owner for each in problems if each.owner}))
        self._log.error(
            "reload",
            result="refused",
            still=self.standing.config.hash,
            **({"owners": owners} if owners else {}),
            problems=[str(problem) for problem in problems[:_MAX_NAMED]],
            more=max(0, len(problems) - _MAX_NAMED),
        )


async def _without_pauses(work: Callable[[], T]) -> T:
    """Do it in a thread, with the garbage collector held.

    A large file makes some hundred thousand objects, none of them garbage. Collections would walk
    them again and again while they hold the event loop up: 176 ms for 10,000 routes, measured. So
    they are frozen, and for ever: a configuration has no cycle, nor has a connection that is over,
    and what has none goes all the same once nobody has it.
    """
    gc.collect()
    gc.disable()
    try:
        return await asyncio.to_thread(work)
    finally:
        gc.freeze()
        gc.enable()


def _named(edits: Iterable[Edit]) -> dict[str, list[str]]:
    """What was added, removed and changed, by kind: names, the first few of many."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for edit in edits:
        if edit.kind == "settings":
            named["settings_changed"] += [detail.name for detail in edit.details]
        else:
            named[f"{edit.kind}s_{edit.what}"].append(edit.name)
    return {what: _few(names) for what, names in named.items()}


def _files_changed(before: Config, after: Config) -> dict[str, list[str]]:
    """Which of a folder's files are not as they were; one file alone goes without saying."""
    changed = {name for name, _ in before.files.items() ^ after.files.items()}
    alone = len(before.files) <= 1 and len(after.files) <= 1
    return {} if alone else {"files_changed": _few(sorted(changed))}


def _few(named: Sequence[object]) -> list[str]:
    more = len(named) - _MAX_NAMED
    return [*map(str, named[:_MAX_NAMED]), *([f"and {more} more"] if more > 0 else [])]
