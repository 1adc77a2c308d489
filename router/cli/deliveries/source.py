"""Where deliveries are asked for and acted on: a store here, or a router from afar."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from router.cli.options import read_setting
from router.cli.remote import read_remote
from router.store.filters import Filters
from router.store.ops import Step, Verb
from router.store.shapes import ActionShape, CountShape, DossierShape, EntryShape, PauseShape


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be acted on."""

    #: As it will be recorded.
    action: ActionShape
    counts: list[CountShape]
    #: How many more there are that were acknowledged later.
    left_out: int
    #: Do it, step by step.
    carry_out: Callable[[], Iterator[Step]]


class Deliveries(Protocol):
    """What is shown of them has the same shapes, wherever they are. Every method raises
    RouterError, or StoreFailed."""

    #: How its routes.yaml is called.
    routes: str

    def now(self) -> float:
        """By the clock that ages are counted by."""
        ...

    def counts(self, filters: Filters) -> list[CountShape]: ...

    def pages(self, filters: Filters, limit: int) -> Iterator[Sequence[EntryShape]]:
        """So many deliveries, in pages, the oldest recorded first."""
        ...

    def actions(self, limit: int) -> list[ActionShape]:
        """The last ones, newest first."""
        ...

    def pauses(self) -> list[PauseShape]:
        """Those in force, by target."""
        ...

    def dossier(self, event_id: str, *, body: bool) -> DossierShape | None: ...

    def targets(self) -> set[str] | None:
        """Those of routes.yaml; None where that can't be told."""
        ...

    def preview(self, verb: Verb, filters: Filters, who: str | None) -> Preview:
        """`who` acts; None for whoever this is."""
        ...

    def pause(self, target: str, until: str, because: str, who: str | None) -> PauseShape: ...

    def resume(self, target: str, who: str | None) -> PauseShape | None:
        """The pause that is over now; None where there was none."""
        ...


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Deliveries]:
    """The one that the options name. Raises RouterError."""
    remote = read_remote(args)
    if remote is not None:
        from router.cli.deliveries.afar import RemoteDeliveries

        yield RemoteDeliveries(remote)
        return
    from router.cli.deliveries.store import opened_ops
    from router.cli.deliveries.stored import StoredDeliveries

    with opened_ops(args) as (runner, ops):
        yield StoredDeliveries(runner, ops, read_setting(args, "config"))
