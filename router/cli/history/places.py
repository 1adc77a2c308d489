"""The places on this machine where events are looked for: the archive and the store."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING

from router.cli.deliveries.selecting import mind_known, stored
from router.cli.deliveries.store import add_store, open_ops
from router.cli.deliveries.stored import StoredDeliveries, targets_of
from router.cli.history.source import SearchedPlace
from router.cli.options import add_settings, read_setting
from router.cli.printing import PROGRESS_EVERY, note
from router.cli.remote import add_remote
from router.config.settings import SETTINGS, archive_folder
from router.model.errors import RouterError, StartFailed
from router.store.promises import StoreFailed
from router.telemetry.log.lines import utc

if TYPE_CHECKING:
    from router.archive.reading import Sources
    from router.archive.trace.finding import Match
    from router.archive.trace.question import Question
    from router.archive.trace.shapes import MatchShape, StoryShape
    from router.cli.deliveries.source import Deliveries
    from router.store.ops import Ops


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that `source.opened` reads."""
    where = parser.add_argument_group("where to look (default: the archive and the store)")
    add_archive(where)
    add_store(parser)
    add_remote(parser)


def add_archive(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    add_settings(parser, archive="the router's archive")


def read_archive(args: argparse.Namespace) -> Path | None:
    """The archive's folder; None where there is none. StartFailed where one that was named is not
    there, PermissionError where nobody lets us see."""
    folder = archive_folder(read_setting(args, "archive"), read_setting(args, "store"))
    if folder is None or _is_there(folder):
        return folder
    if args.archive is not None:
        raise StartFailed(f"--archive: {folder} is no folder")
    return None


def _is_there(folder: Path) -> bool:
    try:
        return S_ISDIR(folder.stat().st_mode)
    except PermissionError:
        raise
    except OSError:
        return False


class LocalHistory:
    """In the places of this machine."""

    more = False

    def __init__(
        self, runner: asyncio.Runner, ops: Ops | None, sources: Sources, question: Question
    ) -> None:
        self._runner = runner
        self._ops = ops
        self._sources = sources
        self._question = question
        self._first: Match | None = None
        self.now = time.time

    def matches(self, limit: int, *, body: bool) -> Iterator[MatchShape]:
        from router.archive.trace.finding import rows
        from router.archive.trace.shapes import row_shape

        found = self._runner.run(rows(self._question, limit, self._sources, self._ops))
        for row in found:
            self._first = self._first or row.newest
            yield row_shape(row, body=body)
        self.more = found.more

    def story(self, *, body: bool) -> StoryShape:
        from router.archive.trace.finding import story_of
        from router.archive.trace.shapes import story_shape

        assert self._first is not None
        story = self._runner.run(story_of(self._first, self._sources, self._ops))
        return story_shape(story, body=body)

    @property
    def looked_in(self) -> Sequence[SearchedPlace]:
        reach = self._sources.reach
        places = [
            SearchedPlace(name=name, back_to=None if since is None else utc(since))
            for name, since in reach.items()
        ]
        return [
            *places,
            *([SearchedPlace(name="store", back_to=None)] if self._ops is not None else []),
        ]

    @property
    def skipped(self) -> int:
        return self._sources.skipped


@contextmanager
def opened_here(args: argparse.Namespace, question: Question) -> Iterator[LocalHistory]:
    """Raises RouterError, and PermissionError."""
    from router.archive.reading import Sources

    with asyncio.Runner() as runner:
        ops = runner.run(_ops(args))
        try:
            archive = read_archive(args)
            if archive is None and ops is None:
                raise StartFailed(
                    "there is nowhere to look, neither an archive nor a store: "
                    "see --archive, --store, or --url for a running router"
                )
            config = read_setting(args, "config")
            deliveries = None if ops is None else StoredDeliveries(runner, ops, config)
            mind_targets(question.targets, config, archive, deliveries)
            sources = Sources(archive, Progress("looked through"), note)
            yield LocalHistory(runner, ops, sources, question)
        except StoreFailed as error:
            raise RouterError(f"the store failed: {error.told}") from None
        finally:
            if ops is not None:
                runner.run(ops.close())


def mind_targets(
    targets: Sequence[str],
    config: Path,
    archive: Path | None,
    deliveries: Deliveries | None = None,
) -> None:
    """Raises SettingInvalid for one that neither routes.yaml knows nor what is looked into, and
    OSError."""

    def look(missing: set[str]) -> set[str]:
        from router.archive.reading import Sources, inventory
        from router.archive.trace.question import Question

        known = stored(deliveries) if deliveries is not None else set()
        if archive is not None:
            known |= set(inventory(archive, Progress("counted"), lambda _: None).targets)
        for name in missing - known:
            if any(True for _ in Sources(archive).look(Question(targets=(name,)))):
                known.add(name)
        return known

    where = "the archive" if archive and not deliveries else "what is looked into"
    if targets:
        mind_known(targets, where, str(config), targets_of(config), look)


async def _ops(args: argparse.Namespace) -> Ops | None:
    """The store, where it is to be looked into and is there: one that was named has to be."""
    if read_setting(args, "store") is None:
        return None
    try:
        return await open_ops(args)
    except StartFailed:
        if args.store is not None or os.environ.get(SETTINGS["store"].variable):
            raise
        return None


class Progress:
    """Tells on stderr how far something is that takes its time."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._told_at = time.monotonic()

    def __call__(self, how_far: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_EVERY:
            self._told_at = now
            note(f"{self._doing} {how_far}")
