"""Watches routes.yaml and swaps the configuration, as a whole or not at all."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from router.config.comparison import Edit, edits_of
from router.config.files import Written
from router.config.loading import Config, Look, Source
from router.model.errors import ConfigInvalid, Problem
from router.net.loops import happens
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.metrics import Metrics

#: Seconds between two looks at the file. Polled and compared by content: an inotify watch loses
#: the second of two atomic renames, and a ConfigMap's second swap.
LOOK_EVERY = 2.0

#: Seconds between two looks that have to agree before a content is loaded: a half-written file is
#: often valid.
SETTLE = 0.3

#: The most names that one log line lists.
_MAX_NAMED = 20

#: The number of reloads that are remembered.
MAX_RELOADS = 20


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload that took a configuration into force, or refused one. For pages."""

    #: Unix time, in seconds.
    at: float
    #: Of the new configuration; `""` if it was refused.
    hash: str
    #: The first few changes, in words.
    changes: tuple[str, ...] = ()
    #: The first few problems of a refused configuration.
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class ConfigState:
    """The configuration in force, and the last reloads. For logs, metrics, pages."""

    config: Config
    #: When it came in force; Unix time, in seconds.
    since: float
    #: When a reload was last tried; Unix time, in seconds.
    tried: float
    #: True if the files' present contents are in force.
    successful: bool = True
    problems: tuple[Problem, ...] = ()
    #: Newest first.
    reloads: deque[Reloaded] = field(default_factory=lambda: deque(maxlen=MAX_RELOADS))


class Reload:
    """Takes a changed configuration into force once it is whole and valid, and reports others."""

    def __init__(
        self,
        watched: tuple[Source, Look] | None,
        config_state: ConfigState,
        apply: Callable[[Config], Iterable[str]],
        sweep: Callable[[], Awaitable[None]],
        log: Log,
        metrics: Metrics,
        *,
        on_reload: Callable[[Reloaded], None] = lambda _: None,
    ) -> None:
        """`apply` swaps the configuration on the event loop, must not fail, and returns warnings.
        `on_reload` gets each reload that changed or refused something."""
        self.config_state = config_state
        self._watched = watched
        self._apply = apply
        self._sweep = sweep
        self._log = log
        self._metrics = metrics
        self._on_reload = on_reload
        #: The mark of the last contents that were loaded or refused.
        self._seen = watched[1].mark if watched else ""
        self._asked = asyncio.Event()
        #: Called after a look that was asked for or met a change, with True if the files' present
        #: contents are in force.
        self.on_look: Callable[[bool], None] = lambda _: None

    def ask(self) -> None:
        """Look now, and log the result even if nothing changed, as for SIGHUP."""
        self._asked.set()

    async def run(self) -> None:
        """Look for ever. After each look, sweep the rest of earlier configurations; but not after a
        look that was asked for, so that a request ends between two sweeps."""
        while self._watched is not None:
            if asked := await happens(self._asked, LOOK_EVERY):
                self._asked.clear()
            tried = self.config_state.tried
            try:
                await self._look(self._watched[0], asked)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end reloading
                self._report_fault(self._watched[0], error)
                self.on_look(False)
            else:
                if asked or self.config_state.tried != tried:
                    self.on_look(self.config_state.successful)
            if not asked:
                await self._sweep()

    def _report_fault(self, source: Source, error: Exception) -> None:
        at = place_of(error)
        self._log.error("fault", at=at)
        message = f"can't be taken for a fault of the router: {at}"
        problem = Problem(str(source.path), 0, 0, "", message)
        if problem not in self.config_state.problems:
            self._refuse((problem,))

    async def _look(self, source: Source, asked: bool) -> None:
        look = await asyncio.to_thread(source.look)
        if look.mark != self._seen:
            look = await self._settled(source, look)
        if look.mark != self._seen or (asked and not self.config_state.successful):
            self._seen = look.mark
            await self._load(source, look, asked)
        elif asked:
            self._unchanged()

    async def _settled(self, source: Source, look: Look) -> Look:
        """Return a look that agrees with the one before it."""
        while True:
            await asyncio.sleep(SETTLE)
            again = await asyncio.to_thread(source.look)
            if again.mark == look.mark:
                return again
            look = again

    async def _load(self, source: Source, look: Look, asked: bool) -> None:
        self.config_state.tried = time.time()
        try:
            if look.problems:
                raise ConfigInvalid(look.problems)
            config, edits = await asyncio.to_thread(self._compare, source, look.files)
        except ConfigInvalid as error:
            self._refuse(error.problems)
            return
        if config.hash != self.config_state.config.hash:
            self._swap(config, edits)
        elif asked or not self.config_state.successful:
            self._unchanged()
        self.config_state.successful, self.config_state.problems = True, ()

    def _compare(self, source: Source, files: Sequence[Written]) -> tuple[Config, _Edits]:
        """Load and compare, in a thread.

        A large file makes some hundred thousand objects, none of them garbage. Collections would
        walk them again and again while they hold the event loop up: 176 ms for 10,000 routes. So
        they are frozen for ever: neither a configuration nor a closed connection has a cycle, so
        their reference counts free them.
        """
        gc.collect()
        gc.disable()
        try:
            config, before = source.load(files), self.config_state.config
            edits = edits_of(before, config)
            return config, (tuple(_few(edits)), _by_field(edits, before, config))
        finally:
            gc.freeze()
            gc.enable()

    def _unchanged(self) -> None:
        self._metrics.reloads["unchanged"] += 1
        self._log.info("reload", result="unchanged", config=self.config_state.config.hash)

    def _swap(self, config: Config, edits: _Edits) -> None:
        changes, names = edits
        warnings = self._apply(config)
        self.config_state.config = config
        self.config_state.since = time.time()
        self._remember(Reloaded(self.config_state.since, config.hash, changes))
        self._metrics.reloads["taken"] += 1
        self._log.info("reload", result="taken", config=config.hash, **names)
        for problem in warnings:
            self._log.warning("config", problem=problem)

    def _refuse(self, problems: tuple[Problem, ...]) -> None:
        self.config_state.successful, self.config_state.problems = False, problems
        self._remember(Reloaded(self.config_state.tried, "", problems=tuple(_few(problems))))
        self._metrics.reloads["refused"] += 1
        owners = _few(sorted({problem.owner for problem in problems if problem.owner}))
        self._log.error(
            "reload",
            result="refused",
            still=self.config_state.config.hash,
            **({"owners": owners} if owners else {}),
            problems=[str(problem) for problem in problems[:_MAX_NAMED]],
            more=max(0, len(problems) - _MAX_NAMED),
        )

    def _remember(self, reloaded: Reloaded) -> None:
        self.config_state.reloads.appendleft(reloaded)
        self._on_reload(reloaded)

    def measure(self) -> None:
        """Update the metrics about the configuration in force."""
        config_state, metrics = self.config_state, self._metrics
        metrics.configuration = {"hash": config_state.config.hash}
        metrics.configuration_since = config_state.since
        metrics.reload_successful = int(config_state.successful)
        faulty = {problem.file: problem.owner for problem in config_state.problems}
        metrics.reload_refused = {
            name: ", ".join(_few(sorted(set(filter(None, values)))))
            for name, values in (("file", faulty), ("owner", faulty.values()))
            if faulty
        }


#: The edits of a reload in words, and the names in them by the log line's field.
_Edits = tuple[tuple[str, ...], dict[str, list[str]]]


def _by_field(edits: Iterable[Edit], before: Config, after: Config) -> dict[str, list[str]]:
    """Return the names that were added, removed and changed, and the changed files of a folder."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for edit in edits:
        if edit.kind == "settings":
            names["settings_changed"] += [detail.name for detail in edit.details]
        else:
            names[f"{edit.kind}s_{edit.what}"].append(edit.name)
    if len(before.files) > 1 or len(after.files) > 1:
        names["files_changed"] = sorted(
            {name for name, _ in before.files.items() ^ after.files.items()}
        )
    return {field: _few(listed) for field, listed in names.items()}


def _few(items: Sequence[object]) -> list[str]:
    more = len(items) - _MAX_NAMED
    return [*map(str, items[:_MAX_NAMED]), *([f"and {more} more"] if more > 0 else [])]
