"""Events of the archive that are to be delivered again: which, from where on, and as what."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from router.archive.trace.events import events
from router.archive.trace.happenings import ToldCaller, time_of
from router.archive.trace.question import Question
from router.contract.replies import is_sane
from router.model.errors import Refused
from router.model.event import SUCCESS, Letter
from router.store.ops import Resend
from router.store.promises import Record, Stage
from router.telemetry.log.lines import stamp

if TYPE_CHECKING:
    from router.contract.intake import Intake


class ReplayPlace(NamedTuple):
    """How far a replay has come: events are taken in the order of these."""

    at: float
    event_id: str

    def __str__(self) -> str:
        return f"up to {stamp(self.at)} {self.event_id}"


@dataclass(frozen=True, slots=True)
class Again:
    """A replay, which may have begun earlier."""

    target: str
    #: Whose key fits, and from when to when.
    question: Question
    #: Those that the target was in no plan of, in place of those that it was.
    backfill: bool = False
    #: What has been taken before.
    after: ReplayPlace | None = None

    def is_unknown(self, told: ToldCaller) -> bool:
        """Whether the line has not all of its targets, and ours is none of the rest."""
        return "targets" in told.cut and all(each.target != self.target for each in told.targets)

    def choose(
        self, folder: Path, progress: Callable[[str], None], tell: Callable[[str], None]
    ) -> Iterator[ToldCaller]:
        """Each event once, in order of time; those too of which `is_unknown`. Raises OSError."""
        for told in events(folder, self.question, progress, tell):
            had_it = any(each.target == self.target for each in told.targets)
            if (had_it == self.backfill and not self.is_unknown(told)) or not (
                told.event_id or told.code == SUCCESS
            ):
                continue
            if self.after is None or place_of(told) > self.after:
                yield told


def words_of(what: str, since: float | None) -> str:
    """A replay by its words; `ReplayPlace` comes after them."""
    return f"archive {what} from {'-' if since is None else stamp(since)}"


def resumed(what: str, said: str) -> tuple[float | None, ReplayPlace] | None:
    """From when on a replay of those words was to go, and how far it came, where it was stopped."""
    found = re.fullmatch(rf"archive {re.escape(what)} from (\S+) up to (\S+) (\S+)", said)
    if found is None:
        return None
    since, at, event_id = found.groups()
    return None if since == "-" else time_of(since), ReplayPlace(time_of(at), event_id)


def place_of(told: ToldCaller) -> ReplayPlace:
    return ReplayPlace(told.at, id_of(told))


def id_of(told: ToldCaller) -> str:
    """Its `webhook-id`; one that no route has matched gets one now, always the same."""
    if told.event_id:
        return told.event_id
    name = hashlib.sha256(f"{told.at} {told.request_id}".encode()).digest()
    return str(UUID(bytes=name[:16], version=4))


def resend(told: ToldCaller) -> Resend | None:
    """None for a line that the router can't have written: it has no event, or ids that would be
    headers of their own. The key is the body's, for the line's may be cut."""
    if told.body is None or not all(map(_is_header, (id_of(told), told.request_id))):
        return None
    try:
        event = _intake().read(told.body.encode())
    except Refused:
        return None
    at, event_id = told.at, id_of(told)
    record = Record(event_id, Stage.CLOSED, at, told.number or 1, at, at, at, at, spent=True)
    letter = Letter.of(event, told.request_id)
    return Resend(record, letter, str(place_of(told)))


def _is_header(text: str) -> bool:
    return is_sane(text.encode("utf-8", "replace"))


@cache
def _intake() -> Intake:
    """By the contract alone: an operator's schema may be another today."""
    # They bring in the validators, which only those wait for who replay.
    from router.contract.intake import Intake

    return Intake.of(None)
