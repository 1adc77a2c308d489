"""What a check has found: good, a breach, or nothing, since it does not apply. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from router.cli.wording import Wording
from router.model.event import Attempt, Reason


class Grade(StrEnum):
    GOOD = "good"
    BREACH = "breach"
    #: It was not tried.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has come to, in words for people."""

    grade: Grade
    #: What was seen; of a breach what is wrong, of what was skipped why.
    said: str
    #: As what the router takes such an answer; None where it would get none like it.
    reason: Reason | None = None
    #: What that does to whom, where it is not that the event comes again.
    then: str = ""
    #: How to mend it.
    mend: str = ""


#: The reasons of a receiver that answers, and says no.
_SAID_NO = (Reason.CODE, Reason.STATUS)


def good(said: str) -> Finding:
    return Finding(Grade.GOOD, said)


def skipped(why: str) -> Finding:
    return Finding(Grade.SKIPPED, why)


def breach(said: str, then: str, mend: str) -> Finding:
    return Finding(Grade.BREACH, said, None, then, mend)


def unacknowledged(words: Wording, attempt: Attempt, what: str, mend: str = "") -> Finding:
    """The breach of who should have acknowledged: `what`, and how it was answered.

    `mend` is for a receiver that acknowledges other events; one that does not answer at all needs
    what the reason needs.
    """
    if not mend or attempt.reason not in _SAID_NO:
        mend = words.get(f"mend.{attempt.reason}")
    said = words("answered", what=what, answer=answer_of(words, attempt))
    return Finding(Grade.BREACH, said, attempt.reason, mend=mend)


def answer_of(words: Wording, attempt: Attempt) -> str:
    """How a request was answered, in a few words."""
    if attempt.acknowledged:
        return words("acknowledged", status=str(attempt.status))
    why = words.get(f"reason.{attempt.reason}")
    if attempt.detail:
        why = words("detail", reason=why, detail=attempt.detail)
    status = f"HTTP {attempt.status}" if attempt.status else ""
    return words("comma").join(filter(None, (status, why, attempt.msg)))
