"""Where events are looked for: the archive and the store here, or a router from afar."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypedDict

from router.cli.remote import read_remote
from router.model.errors import SettingInvalid

if TYPE_CHECKING:
    from router.archive.trace.question import Question
    from router.archive.trace.shapes import MatchShape, StoryShape


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


def question_of(args: argparse.Namespace) -> Question:
    """Which events the options select; what a command has no option for fits all."""
    from router.archive.trace.question import Question, Word

    given = vars(args)
    return Question(
        words=tuple(map(Word, given.get("what") or ())),
        keys=tuple(given.get("match") or ()),
        since=args.since,
        until=args.until,
        targets=tuple(args.target or ()),
        codes=tuple(args.code or ()),
        failed=args.failed,
    )


@contextmanager
def opened(args: argparse.Namespace, question: Question) -> Iterator[History]:
    """The one that the options name. Raises RouterError, and PermissionError."""
    words = (word.text for word in question.words)
    if not all((*words, *question.targets, *question.codes)):
        raise SettingInvalid("an argument is empty")
    remote = read_remote(args)
    if remote is not None:
        from router.cli.history.afar import RemoteHistory

        yield RemoteHistory(remote, question)
        return
    from router.cli.history.places import opened_here

    with opened_here(args, question) as here:
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
