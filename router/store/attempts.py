"""The failed attempts that are kept with a delivery: the first, the last few, and how many between.

Their rows are written in the commit that their delivery's row is written in. What was acknowledged
at once has none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from router.model.event import Attempt, Reason

#: How many of the last ones are kept, besides the first.
LAST = 20

#: What a kept attempt takes up besides its texts, in bytes.
_OVERHEAD = 128


class Tried(NamedTuple):
    """One failed attempt of a delivery."""

    attempt: Attempt
    #: Which request of the caller made it, from 1; 0 where the queue did.
    request: int = 0
    #: Which retry of the queue it was, from 1; 0 where a request made it.
    retry: int = 0
    #: Its number among all of the delivery, from 1; 0 before it is kept.
    number: int = 0


#: The columns of a kept attempt, in the order of `values` and of `tried`.
COLUMNS = ("at", "seconds", "request", "retry", "reason", "delivered", "status", "code", "msg",
           "detail")  # fmt: skip


def values(of: Tried) -> tuple[Any, ...]:
    a = of.attempt
    return (a.at, a.seconds, of.request, of.retry, str(a.reason), a.delivered, a.status, a.code,
            a.msg, a.detail)  # fmt: skip


def tried(row: Iterable[Any]) -> Tried:
    """From its number and its columns."""
    number, at, seconds, request, retry, reason, delivered, status, code, msg, detail = row
    attempt = Attempt(Reason(reason), bool(delivered), seconds, status, detail, None, at, code, msg)
    return Tried(attempt, request, retry, number)


def said_by(code: str, msg: str, detail: str) -> str:
    """The receiver's own words, which are harmless; where there are none, the router's."""
    return ": ".join(filter(None, (code, msg))) or detail


def size_of(of: Tried) -> int:
    """In bytes, as it counts for the limits: of the store, and of its target's share."""
    texts = (of.attempt.code, of.attempt.msg, of.attempt.detail)
    return _OVERHEAD + sum(len(text.encode()) for text in texts)


def is_kept(full: Collection[str], target: str) -> bool:
    """Whether there is room for an attempt, `full` being what is out of it: `""` for the store as a
    whole. What is delivered does not depend on them, so they are the first to go without."""
    return "" not in full and target not in full
