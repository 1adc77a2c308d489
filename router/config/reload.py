"""Watches routes.yaml, swaps the configuration, and reports the files that were refused."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from router.config.comparison import Edit, edits_of
from router.config.files import Written
from router.config.fitting import FileRefusal
from router.config.lastgood import Reloaded
from router.config.loading import (
    Config,
    Look,
    Source,
    collections_off,
    problems_of,
    refused_by_file,
)
from router.model.errors import ConfigInvalid, Problem, why_not
from router.net.loops import happens
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.metrics import Metrics

#: Seconds between two looks at the file. Polled and compared by content: an inotify watch loses
#: the second of two atomic renames, and a ConfigMap's second swap. With SETTLE, an edit is in force
#: within two seconds.
LOOK_EVERY = 1.5

#: Seconds between two looks that have to agree before a content is loaded: a half-written file is
#: often valid.
SETTLE = 0.3

#: The most names that one log line lists.
_MAX_NAMED = 20

#: The number of reloads that are remembered.
MAX_RELOADS = 20


@dataclass(slots=True)
class ConfigState:
    """The configuration in force, and the last reloads. For logs, metrics, pages."""

    config: Config
    #: When it came in force; Unix time, in seconds.
    since: float
    #: When a reload was last tried; Unix time, in seconds.
    tried_at: float
    #: The files whose present text is not in force, by name.
    refused: Mapping[str, FileRefusal] = field(default_factory=dict)
    #: Newest first.
    reloads: deque[Reloaded] = field(default_factory=lambda: deque(maxlen=MAX_RELOADS))

    @property
    def successful(self) -> bool:
        """True if the files' present contents are in force."""
        return not self.refused

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(problems_of(self.refused))

    def owners(self) -> dict[str, str]:
        """Return the owner of each file in force or refused, by its name."""
        in_force = {name: file.owner for name, file in self.config.files.items()}
        return in_force | {name: file.owner for name, file in self.refused.items()}


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
        self._source = watched[0] if watched else None
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
        source = self._source
        if source is None:
            return
        if self.config_state.refused:
            self._report(self.config_state.refused)
        await self._keep(source)
        while True:
            if asked := await happens(self._asked, LOOK_EVERY):
                self._asked.clear()
            try:
                has_loaded = await self._look(source, asked)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end reloading
                self._report_fault(source, error)
                self.on_look(False)
            else:
                if asked or has_loaded:
                    self.on_look(self.config_state.successful)
            if not asked:
                await self._sweep()

    def _report_fault(self, source: Source, error: Exception) -> None:
        at = place_of(error)
        self._log.error("fault", at=at)
        message = f"can't be taken for a fault of the router: {at}"
        problem = Problem(str(source.path), 0, 0, "", message)
        self._refuse({problem.file: FileRefusal("", (problem,))}, asked=False)

    async def _look(self, source: Source, asked: bool) -> bool:
        """Load the files if they have changed, or if they are not in force and a look was asked
        for. Return whether that was so."""
        look = await asyncio.to_thread(source.look)
        if look.mark != self._seen:
            look = await self._settled(source, look)
        if look.mark != self._seen or (asked and not self.config_state.successful):
            self._seen = look.mark
            await self._load(source, look, asked)
            return True
        if asked:
            self._unchanged()
        return False

    async def _settled(self, source: Source, look: Look) -> Look:
        """Return a look that agrees with the one before it."""
        while True:
            await asyncio.sleep(SETTLE)
            again = await asyncio.to_thread(source.look)
            if again.mark == look.mark:
                return again
            look = again

    async def _load(self, source: Source, look: Look, asked: bool) -> None:
        self.config_state.tried_at = time.time()
        config, edits = self.config_state.config, _NONE
        try:
            if look.problems:
                raise ConfigInvalid(look.problems)
            config, refused, edits = await asyncio.to_thread(self._compare, source, look.files)
        except ConfigInvalid as error:
            refused = refused_by_file(error.problems)
        last = next(iter(self.config_state.reloads), None)
        if config is not self.config_state.config:
            self._swap(config, edits)
        elif not refused and (asked or self.config_state.refused):
            self._unchanged()
        self._refuse(refused, asked)
        if next(iter(self.config_state.reloads), None) is not last:
            await self._keep(source)

    def _compare(
        self, source: Source, files: Sequence[Written]
    ) -> tuple[Config, Mapping[str, FileRefusal], _Edits]:
        """Load and compare, in a thread. Files without any change give the configuration in force.

        A collection would walk the objects of a large file while it holds the event loop up: 176 ms
        for 10,000 routes. So they are frozen for ever: neither a configuration nor a closed
        connection has a cycle, so their reference counts free them.
        """
        gc.collect()
        with collections_off():
            try:
                before = self.config_state.config
                after, refused = source.load(files, [*before.files.values()])
                if (after.hash, after.files.keys()) == (before.hash, before.files.keys()):
                    return before, refused, _NONE
                edits = edits_of(before, after)
                return after, refused, (tuple(_few(edits)), _by_field(edits, before, after))
            finally:
                gc.freeze()

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

    def _refuse(self, refused: Mapping[str, FileRefusal], asked: bool) -> None:
        """Set the refused files, and report those that were not refused in this way before."""
        before, self.config_state.refused = self.config_state.refused, refused
        if news := {name: one for name, one in refused.items() if asked or before.get(name) != one}:
            self._report(news)

    def _report(self, refused: Mapping[str, FileRefusal]) -> None:
        problems = problems_of(refused)
        owners: defaultdict[str, list[Problem]] = defaultdict(list)
        for problem in problems:
            owners[problem.owner].append(problem)
        for owner, of_owner in owners.items():
            texts = tuple(_few(of_owner))
            self._remember(Reloaded(self.config_state.tried_at, "", problems=texts, owner=owner))
        self._metrics.reloads["refused"] += 1
        named = _few(sorted(filter(None, owners)))
        self._log.error(
            "reload",
            result="refused",
            still=self.config_state.config.hash,
            **({"owners": named} if named else {}),
            files=_few([*refused]),
            problems=[str(problem) for problem in problems[:_MAX_NAMED]],
            more=max(0, len(problems) - _MAX_NAMED),
        )

    async def _keep(self, source: Source) -> None:
        """Write the texts in force and the reloads to disk, for the next start."""
        if source.last_good is None:
            return
        path, files = source.last_good.path, self.config_state.config.files.values()
        try:
            await asyncio.to_thread(source.last_good.write, files, [*self.config_state.reloads])
        except OSError as error:
            why = why_not(path, error)
            message = f"the texts in force can't be kept in {path} for the next start: {why}"
            self._log.warning("config", problem=message)

    def _remember(self, reloaded: Reloaded) -> None:
        reloads = self.config_state.reloads
        # Otherwise each start adds the same refusals again, which may be of several owners.
        for known in takewhile(lambda one: not one.hash, [*reloads]):
            if replace(known, at=reloaded.at) == reloaded:
                reloads.remove(known)
        reloads.appendleft(reloaded)
        self._on_reload(reloaded)

    def measure(self) -> None:
        """Update the metrics about the configuration in force."""
        config_state, metrics = self.config_state, self._metrics
        metrics.configuration = {"hash": config_state.config.hash}
        metrics.configuration_since = config_state.since
        refused = config_state.refused
        metrics.reload_successful = int(config_state.successful)
        metrics.config_file_ok = {
            (name, owner): int(name not in refused) for name, owner in config_state.owners().items()
        }
        owners = sorted({file.owner for file in refused.values() if file.owner})
        named = {"file": ", ".join(_few([*refused])), "owner": ", ".join(_few(owners))}
        metrics.reload_refused = named if refused else {}


#: The edits of a reload in words, and the names in them by the log line's field.
_Edits = tuple[tuple[str, ...], dict[str, list[str]]]
_NONE: _Edits = ((), {})


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
            name
            for name in {**before.files, **after.files}
            if before.files.get(name) != after.files.get(name)
        )
    return {field: _few(listed) for field, listed in names.items()}


def _few(items: Sequence[object]) -> list[str]:
    more = len(items) - _MAX_NAMED
    return [*map(str, items[:_MAX_NAMED]), *([f"and {more} more"] if more > 0 else [])]
