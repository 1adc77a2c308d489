"""Deliveries in a store that this machine reaches."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from router.cli.deliveries.source import Preview
from router.cli.printing import told_while_slow
from router.config.document import parse_document
from router.config.files import read
from router.model.errors import ConfigInvalid, SettingInvalid
from router.model.event import new_id
from router.store.filters import Filters, acted_on, filter_words, selection_of
from router.store.ops import Action, Later, Selection, Step, Verb, carry_out
from router.store.pauses import pause, paused, resume
from router.store.shapes import (
    ActionShape,
    CountShape,
    DossierShape,
    EntryShape,
    PauseShape,
    action_shape,
    count_shapes,
    dossier_shape,
    entry_shape,
    pause_shape,
)

if TYPE_CHECKING:
    from router.store.ops import Ops

T = TypeVar("T")

#: How many deliveries are read at a time, so that a million of them need no memory.
_PAGE = 500


class StoredDeliveries:
    """Those of a store; who acts is whoever runs the command."""

    def __init__(self, runner: asyncio.Runner, ops: Ops, config: Path) -> None:
        self._runner = runner
        self._ops = ops
        self._config = config
        self.routes = str(config)
        self.now = ops.now

    def counts(self, filters: Filters) -> list[CountShape]:
        return self._counts(selection_of(filters, self.now()))

    def _counts(self, selection: Selection) -> list[CountShape]:
        return count_shapes(self._ask(self._ops.counts(selection)))

    def pages(self, filters: Filters, limit: int) -> Iterator[Sequence[EntryShape]]:
        for page in self._each(self._ops.pages(selection_of(filters, self.now()), _PAGE)):
            yield [*map(entry_shape, page[:limit])]
            limit -= len(page)
            if limit <= 0:
                return

    def actions(self, limit: int) -> list[ActionShape]:
        return [*map(action_shape, self._ask(self._ops.actions(limit)))]

    def pauses(self) -> list[PauseShape]:
        return [*map(pause_shape, self._ask(paused(self._ops)))]

    def dossier(self, event_id: str, *, body: bool) -> DossierShape | None:
        found = self._ask(self._ops.dossier(event_id))
        return None if found is None else dossier_shape(found, body=body)

    def targets(self) -> set[str] | None:
        return targets_of(self._config)

    def preview(self, verb: Verb, filters: Filters, who: str | None) -> Preview:
        action = Action(new_id(), verb, who or whoever(), filter_words(filters), self.now())
        # What comes meanwhile is not counted, so it is not acted on either.
        selection = acted_on(verb, filters, action.at)
        left_out = 0
        if selection.acknowledged_later is Later.EXCLUDE:
            others = self._counts(replace(selection, acknowledged_later=Later.ONLY))
            left_out = sum(count["deliveries"] for count in others)
        return Preview(
            action_shape(action),
            self._counts(selection),
            left_out,
            partial(self._carry_out, action, selection),
        )

    def _carry_out(self, action: Action, selection: Selection) -> Iterator[Step]:
        return self._each(carry_out(self._ops, action, selection))

    def pause(self, target: str, until: str, because: str, who: str | None) -> PauseShape:
        try:
            made = self._ask(pause(self._ops, target, until, because, who or whoever()))
        except ValueError as error:
            raise SettingInvalid(str(error)) from None
        return pause_shape(made)

    def resume(self, target: str, who: str | None) -> PauseShape | None:
        ended = self._ask(resume(self._ops, target, who or whoever()))
        return None if ended is None else pause_shape(ended)

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        with told_while_slow("the store"):
            return self._runner.run(question)

    def _each(self, found: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> T | None:
            return await anext(found, None)

        while (each := self._ask(following())) is not None:
            yield each


def targets_of(path: Path) -> set[str] | None:
    """Those of a routes.yaml, or of a folder of them, for which neither variables nor secrets are
    needed; None where it can't be read."""
    try:
        trees = [parse_document(each.content, each.name) for each in read(path)]
    except ConfigInvalid:
        return None
    sections = (tree.entries(tree.root).get("targets") for tree in trees)
    found = zip(trees, sections, strict=True)
    return {name for tree, entry in found if entry for name in tree.entries(entry[1])}


def whoever() -> str:
    """Whoever runs this, as far as the system knows."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
