"""Where events are looked for: the archive, the store and logs here, or a router from afar."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict

from router.cli.remote import read_remote
from router.cli.times import Moment
from router.model import SettingInvalid

if TYPE_CHECKING:
    from router.archive import MatchShape, StoryShape


class EventsWanted(NamedTuple):
    """Which events; what is empty fits all."""

    #: Any id, a key or a pattern of keys.
    what: Sequence[str]
    targets: Sequence[str] = ()
    codes: Sequence[str] = ()
    since: Moment | None = None
    until: Moment | None = None
    failed: bool = False


class SearchedPlace(TypedDict):
    """A place, and how far back it reaches; None where nothing is there."""

    name: str
    back_to: str | None


class History(Protocol):
    """One look. Every method raises RouterError."""

    #: There are more matches than were asked for; known once those have been read.
    more: bool

    @property
    def looked_in(self) -> Sequence[SearchedPlace]:
        """Where was looked; known likewise."""
        ...

    @property
    def skipped(self) -> int:
        """How many lines could not be read."""
        ...

    def now(self) -> float:
        """By the clock that ages are counted by."""
        ...

    def matches(self, limit: int, *, body: bool) -> Iterator[MatchShape]:
        """The newest first, each as soon as it is found."""
        ...

    def story(self, *, body: bool) -> StoryShape:
        """Of the first of them."""
        ...


@contextmanager
def opened(args: argparse.Namespace, wanted: EventsWanted) -> Iterator[History]:
    """The one that the options name. Raises RouterError."""
    for text in (*wanted.what, *wanted.targets, *wanted.codes):
        if not text:
            raise SettingInvalid("an argument is empty")
    remote = read_remote(args)
    if remote is not None:
        from router.cli.history.afar import RemoteHistory

        yield RemoteHistory(remote, wanted)
        return
    from router.cli.history.places import opened_here

    with opened_here(args, wanted) as here:
        yield here


def where_told(history: History) -> str:
    """Where was looked, and how far back each reaches."""
    places = [
        f"the {each['name']} ({_reach(each['name'], each['back_to'])})"
        for each in history.looked_in
    ]
    if not places:
        return "the router has neither an archive nor a store, or no such target of yours"
    return f"looked in {', '.join(places)}"


def _reach(name: str, back_to: str | None) -> str:
    if name == "store":
        return "what is not settled, or was within the hour"
    return f"back to {back_to}" if back_to is not None else "nothing there"
